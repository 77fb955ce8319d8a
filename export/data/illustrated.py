"""
Images with captions, as a manifest lists them.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ['Captioned', 'read_captioned']


@dataclass(frozen=True)
class Captioned:
    """
    Images with captions.

    Parameters
    ----------
    files : list of `pathlib.Path`
        Image files.
    ids : list of str
        Of the images.
    texts : list of str
        Distinct captions; those that differ in case, spaces and punctuation only are one.
    caption : `numpy.ndarray` of int, shape (n,)
        Which of them each image has.
    group : `numpy.ndarray` of int, shape (n,)
        Proposal of each image, from zero.
    labels : list of list of str
        Labels of each image, where the manifest has some.
    """

    files: list
    ids: list
    texts: list
    caption: np.ndarray
    group: np.ndarray
    labels: list

    def words(self):
        """Caption of each image."""
        return [self.texts[i] for i in self.caption]


def read_captioned(folder, *, field='caption', group='proposal_id', split=None, sources=(),
                   captions=None, held_out=None):
    """
    Read the captioned images of a manifest.

    Parameters
    ----------
    folder : path-like
        Folder with ``manifest.jsonl``: lines with ``id``, ``file`` and a caption.
    field : str, optional
        Key of the caption; images without one are left out.
    group : str, optional
        Key of the proposal. Images without one are grouped by caption.
    split : str, optional
        Only this side of the split.
    sources : collection of str, optional
        Only these sources.
    captions : dict, optional
        Captions by proposal, in place of those of the manifest.
    held_out : `numpy.ndarray` of bool, optional
        Only these lines.

    Returns
    -------
    pairs : `Captioned`
        In the order of the manifest.

    Raises
    ------
    ValueError
        If no image is left, two have one id, or a file lies outside the folder.
    """
    folder = Path(folder).resolve()
    with open(folder / 'manifest.jsonl', encoding='utf-8') as lines:
        rows = [json.loads(line) for line in lines]
    found = {'files': [], 'ids': [], 'labels': []}
    texts, caption, groups = {}, [], {}
    group_of = []
    for i, row in enumerate(rows):
        text = captions.get(str(row.get(group))) if captions is not None else row.get(field)
        if (not text or (split and row.get('split') != split)
                or (sources and row.get('source') not in sources)
                or (held_out is not None and not held_out[i])):
            continue
        file = (folder / row['file']).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f'manifest names a file outside its folder: {row["file"]!r}')
        found['files'].append(file)
        found['ids'].append(str(row['id']))
        found['labels'].append(row.get('labels') or [])
        words = ' '.join(re.findall(r'\w+', text.lower()))
        caption.append(texts.setdefault(words, (len(texts), text))[0])
        name = str(row[group]) if row.get(group) is not None else f'caption: {words}'
        group_of.append(groups.setdefault(name, len(groups)))
    if not caption:
        raise ValueError(f'no image of {folder} has a caption and is on the side that is asked for')
    if len(set(found['ids'])) < len(caption):
        raise ValueError(f'two images of {folder} have one id')
    return Captioned(**found, texts=[text for _, text in texts.values()],
                     caption=np.array(caption), group=np.array(group_of))
