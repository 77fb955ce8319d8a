"""
The images of an archive and what their rows say, as a search reads them.

A folder with ``manifest.jsonl`` (see `export.data.pairs`), a folder with a table that names its
images, a folder of images of any kind, or a table alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from astroclip_search.archives.columns import TableColumns
from astroclip_search.archives.open import open_results
from export.data.descriptions import object_kind
from export.data.pairs import Pair, read_manifest, row_metadata

__all__ = ['MOST', 'Archive', 'read_archive']

#: Images that are taken at most.
MOST = 2000

_TABLES = ('.ecsv', '.csv', '.vot', '.votable', '.parquet')


@dataclass(frozen=True)
class Archive:
    """
    The images of an archive and what is known of them.

    Parameters
    ----------
    refs : `astroclip_search.images.refs.ImageRefs`
        Where each image is, and the metadata of its row.
    pairs : list of `export.data.pairs.Pair`
        What each shows.
    judges : bool
        Whether the labels were made without the metadata, so that weights may be fitted to them.
    """

    refs: object
    pairs: list
    judges: bool = False

    def __len__(self):
        return len(self.pairs)

    def rows(self, rows):
        """
        Take some rows.

        Parameters
        ----------
        rows : sequence of int
            Their positions.

        Returns
        -------
        archive : `Archive`
            Those alone.
        """
        refs = replace(self.refs, sources=[self.refs.sources[i] for i in rows],
                       metadata=[self.refs.metadata[i] for i in rows], reasons={}, own={})
        return replace(self, refs=refs, pairs=[self.pairs[i] for i in rows])


def read_archive(path, *, image_column=None):
    """
    Find the images of an archive.

    Parameters
    ----------
    path : path-like
        A folder with ``manifest.jsonl``, with a table that names its images, or with images alone;
        or a table.
    image_column : str, optional
        Column of the table that names the images, if the product does not know it.

    Returns
    -------
    archive : `Archive`
        Rows with an image, each image once, at most `MOST`, drawn at random; of a manifest
        with a split those first that no model was trained on.

    Raises
    ------
    ValueError
        If there is no such file, if there are several tables, or no images.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f'there is no archive {path}')
    if (path / 'manifest.jsonl').is_file():
        archive = _of_manifest(path)
    else:
        archive = _of_table(path if path.is_file() else _only_table(path), path, image_column)
    first = {source: row for row, source in reversed(list(enumerate(archive.refs.sources)))
             if source and archive.refs.is_open(row)}
    if not first:
        raise ValueError(f'there is no image in {path}')
    rows = np.sort(np.fromiter(first.values(), int))
    trained = np.array([archive.pairs[row].side == 'train' for row in rows])
    drawn = np.lexsort((np.random.default_rng(0).random(len(rows)), trained))[:MOST]
    return archive.rows(rows[np.sort(drawn)].tolist())


def _of_manifest(folder):
    pairs = read_manifest(folder)
    table = Table({'filename': [str(pair.file) for pair in pairs]})
    _, refs = open_results(table, image_column='filename')
    return Archive(replace(refs, metadata=[row_metadata(pair) for pair in pairs]), pairs,
                   judges=True)


def _only_table(folder):
    tables = [file for file in sorted(folder.iterdir())
              if file.suffix.lower() in _TABLES and file.is_file()]
    if len(tables) > 1:
        raise ValueError(f'{folder} has several tables ({", ".join(file.name for file in tables)}):'
                         ' give one of them as the archive')
    return tables[0] if tables else None


def _of_table(file, path, image_column):
    """Rows of a table, or the images of a folder."""
    if file is None:
        table, refs = open_results(path)
    else:
        table, refs = open_results(file, image_dir=file.parent, image_column=image_column)
    columns = TableColumns(table)
    targets, classes, collections = (
        columns.text(columns.roles[role][0]) if role in columns.roles else [''] * len(table)
        for role in ('target', 'class', 'collection'))
    pairs = [Pair(
        Path(source or ''), collection, title=target, kind=object_kind(target),
        labels=tuple(dict.fromkeys(filter(None, (part.strip().lower()
                                                 for part in shown.split(';'))))))
        for source, target, shown, collection in zip(refs.sources, targets, classes, collections,
                                                     strict=True)]
    return Archive(replace(refs, metadata=list(refs.metadata)), pairs)
