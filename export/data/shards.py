"""
Pairs in the two forms that open_clip's trainer reads: a CSV file, and WebDataset shards.

For each side of the split ``<side>.csv`` (tab-separated, ``filepath`` and ``title``) and
``<side>/000000.tar`` and so on, beside which ``sizes.json`` tells open_clip [1]_ how many pairs
there are. Captions are abstracts, or the summaries that were made of them; pictures are as they
are, neither padded nor cropped: that is the business of who trains.

References
----------
.. [1] https://github.com/mlfoundations/open_clip#training-clip
"""

import argparse
import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

from export.data.proposals import write_whole
from export.data.split import PARTS, caption_group
from export.data.summary import FIELDS

__all__ = ['main', 'read_summaries', 'write']


def read_summaries(path):
    """
    Read summaries of proposals as captions.

    Parameters
    ----------
    path : path-like
        ``summaries.jsonl`` of `export.data.summarise`: JSON lines with ``proposal_id`` and the
        lists ``objects_and_phenomena`` and ``science_use_cases``.

    Returns
    -------
    captions : dict
        Number -> caption: the items of each list with commas, the lists with a semicolon between
        them, as in PAPERCLIP.

    Raises
    ------
    ValueError
        If a line is of another form.
    """
    captions = {}
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                captions[str(row['proposal_id'])] = '; '.join(', '.join(row[name])
                                                              for name in FIELDS)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f'{path}, line {number}: no summary of a proposal '
                                 f'({type(error).__name__}: {error})') from error
    return captions


def _captioned(folder, captions):
    """
    Lines of the manifest that have a caption, in an order that mixes proposals.
    """
    with open(folder / 'manifest.jsonl', encoding='utf-8') as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        if captions is not None:
            row['caption'] = captions.get(row['proposal_id'])
        elif row['category']:
            row['caption'] = f'Category: {row["category"]}. {row["caption"]}'
    rows = [{**row, 'caption_group': caption_group(row['caption'])}
            for row in rows if row['caption']]
    return sorted(rows, key=lambda row: hashlib.sha256(row['id'].encode()).digest())


def write(folder, out, captions=None, *, per_shard=1000):
    """
    Write the pairs of a manifest for open_clip.

    Parameters
    ----------
    folder : path-like
        Folder with ``manifest.jsonl``.
    out : path-like
        Folder for lists and shards. Shards that are there from an interrupted run with the same
        pairs are kept, all others are replaced.
    captions : dict, optional
        Number of the proposal -> caption; pictures of others are left out. By default captions are
        abstracts, which the category of the proposal precedes.
    per_shard : int, optional
        Pairs in a shard.

    Returns
    -------
    counts : dict
        Side -> number of pairs.

    Raises
    ------
    ValueError
        If no picture has a caption.
    """
    folder, out = Path(folder).resolve(), Path(out)
    rows = _captioned(folder, captions)
    if not rows:
        raise ValueError(f'no picture of {folder} has a caption: are the summaries of others?')
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([rows, per_shard]).encode()).hexdigest()
    state = out / 'pairs.sha256'
    if not state.exists() or state.read_text() != digest:
        for stale in out.glob('*/*.tar'):
            stale.unlink()
        write_whole(state, digest)
    counts = {}
    for side in PARTS:
        here = [row for row in rows if row['split'] == side]
        counts[side] = len(here)
        write_whole(out / f'{side}.csv', _table(folder, here))
        (out / side).mkdir(exist_ok=True)
        sizes = {}
        for start in range(0, len(here), per_shard):
            shard = out / side / f'{start // per_shard:06d}.tar'
            part = here[start:start + per_shard]
            sizes[shard.name] = len(part)
            if not shard.exists():
                _write_shard(shard, folder, part)
        write_whole(out / side / 'sizes.json', json.dumps(sizes))
    return counts


def _table(folder, rows):
    stream = io.StringIO()
    table = csv.writer(stream, delimiter='\t', lineterminator='\n')
    table.writerow(['filepath', 'title', 'caption_group', 'proposal_id'])
    table.writerows([folder / row['file'], row['caption'], row['caption_group'],
                     row['proposal_id']] for row in rows)
    return stream.getvalue()


def _write_shard(shard, folder, rows):
    part = shard.with_name(shard.name + '.part')
    with tarfile.open(part, 'w', format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            about = {name: row[name] for name in ('id', 'proposal_id', 'caption_group', 'title')}
            for ending, content in (('jpg', (folder / row['file']).read_bytes()),
                                    ('txt', row['caption'].encode()),
                                    ('json', json.dumps(about).encode())):
                member = tarfile.TarInfo(f'{row["id"]}.{ending}')  # of no time, of nobody
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    part.replace(shard)


def main(arguments):
    """
    Run ``python -m export shards``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export shards',
        description='Lists and shards for open_clip, of what `export hst` has collected.')
    parser.add_argument('folder', type=Path, help='folder with manifest.jsonl')
    parser.add_argument('--out', type=Path, required=True, help='folder for lists and shards')
    parser.add_argument('--summaries', metavar='FILE',
                        help='captions from `export summarise` instead of the abstracts')
    parser.add_argument('--per-shard', type=int, default=1000, metavar='N')
    options = parser.parse_args(arguments)
    if options.per_shard < 1:
        parser.error('--per-shard has to be at least 1')
    try:
        captions = read_summaries(options.summaries) if options.summaries else None
        counts = write(options.folder, options.out, captions, per_shard=options.per_shard)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(json.dumps(counts))
