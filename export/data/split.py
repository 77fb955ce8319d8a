"""
Pictures of proposals divided into training, validation and test, each picture once.

A proposal is on one side, chosen by a hash of its number; proposals with the same abstract, such as
continuations, are on the side of the first of them. Of pictures that show the same, within a
proposal or in several, one is kept: rather for testing than for training, so that nothing that was
trained on is tested with.
"""

import hashlib
import json
import re
from base64 import b64decode
from collections import Counter
from pathlib import Path

import numpy as np

from export.data.pairs import Pair, group
from export.data.proposals import write_whole

__all__ = ['PARTS', 'caption_group', 'finish', 'part_of', 'parts']

#: Names of the sides; of repeated pictures the one furthest down is kept.
PARTS = ('train', 'validation', 'test')


def caption_group(text):
    """
    Identify a caption, so that metrics can tell a wrong answer from an equal one.

    Parameters
    ----------
    text : str
        Caption.

    Returns
    -------
    group : str
        The same for captions that differ in case, spaces and punctuation only.
    """
    words = ' '.join(re.findall(r'\w+', text.lower()))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def part_of(number, *, validation=0.1, test=0.1):
    """
    Choose the side of a proposal.

    Parameters
    ----------
    number : str
        The proposal.
    validation, test : float, optional
        Shares of these sides. A proposal in the test set stays there when ``validation`` changes.

    Returns
    -------
    part : str
        One of `PARTS`.
    """
    chance = int(hashlib.sha256(number.encode()).hexdigest()[:8], 16) / 2**32
    if chance < test:
        return 'test'
    return 'validation' if chance < test + validation else 'train'


def parts(proposals, **shares):
    """
    Choose the sides of proposals, whatever their order.

    Parameters
    ----------
    proposals : list of `export.data.proposals.Proposal`
        Proposals.
    **shares : float
        As for `part_of`.

    Returns
    -------
    parts : dict
        Number -> side.
    """
    first = {}
    for proposal in proposals:
        key = caption_group(proposal.abstract)
        first[key] = min(first.get(key, proposal.number), proposal.number, key=int)
    return {proposal.number: part_of(first[caption_group(proposal.abstract)], **shares)
            for proposal in proposals}


def _distinct(rows, sides, similarity):
    """
    Rows of pictures of which each shows something else.
    """
    thumbnails = np.stack([
        np.frombuffer(b64decode(row['thumbnail']), np.uint8).reshape(32, 32, 1) for row in rows])
    # Without titles: several pictures of one object are wanted.
    pairs = [Pair(Path(row['file']), 'picture') for row in rows]
    groups = group(pairs, thumbnails, threshold=similarity)
    order = sorted(range(len(rows)), key=lambda i: (-PARTS.index(sides[rows[i]['number']]),
                                                    int(rows[i]['number']), rows[i]['id']))
    kept = {}
    for i in order:
        kept.setdefault(groups[i], i)
    return [rows[i] for i in sorted(kept.values())]


def finish(proposals, folder, *, validation=0.1, test=0.1, similarity=0.98):
    """
    Write the lists of what `export.data.hst.collect` has brought so far.

    Parameters
    ----------
    proposals : list of `export.data.proposals.Proposal`
        Proposals; pictures of others are passed over.
    folder : path-like
        Where ``units/`` is and ``manifest.jsonl``, ``proposals.jsonl`` and ``report.json`` go.
    validation, test : float, optional
        Shares of these sides.
    similarity : float, optional
        Correlation from which on two pictures are the same. That of `export.data.pairs.group`,
        where it keeps similar objects on one side, would take many galaxies for one.

    Returns
    -------
    report : dict
        How many proposals, pictures and captions there are, on each side and in all.
    """
    folder = Path(folder)
    sides = parts(proposals, validation=validation, test=test)
    known = {proposal.number: proposal for proposal in proposals}
    mission = json.loads((folder / 'settings.json').read_text('utf-8'))['mission']
    units = [json.loads(file.read_text('utf-8')) for file in (folder / 'units').glob('*.json')]
    units = sorted((unit for unit in units if unit['number'] in known),
                   key=lambda unit: int(unit['number']))
    rows = [{**row, 'number': unit['number']} for unit in units for row in unit['images']]
    kept = _distinct(rows, sides, similarity) if rows else []
    pictures = [_pair(row, known[row['number']], sides[row['number']], mission) for row in kept]
    used = [known[number] for number in dict.fromkeys(row['number'] for row in kept)]
    report = {
        'proposals': len(used), 'without_pictures': len(units) - len(used),
        'pictures': len(pictures), 'repeated': len(rows) - len(kept),
        'never': sum(len(unit['never']) for unit in units),
        'later': sum(len(unit['later']) for unit in units),
        'parts': {side: _count(pictures, side) for side in PARTS},
    }
    words = [_words(proposal, sides) for proposal in used]
    for name, lines in (('manifest', pictures), ('proposals', words)):
        write_whole(folder / f'{name}.jsonl',
                    ''.join(json.dumps(line) + '\n' for line in lines))
    write_whole(folder / 'report.json', json.dumps(report, indent=1))
    return report


def _pair(row, proposal, side, mission):
    """
    A line of the manifest: the keys that `export.data.pairs` reads, and those of proposals.
    """
    names = ('id', 'file', 'title', 'labels', 'instrument', 'filters', 'ra', 'dec', 'size',
             'address')
    return {**{name: row[name] for name in names}, 'source': mission.lower(),
            'obs_title': proposal.title, 'caption': proposal.abstract,
            'caption_group': caption_group(proposal.abstract), 'proposal_id': proposal.number,
            'category': proposal.category, 'split': side}


def _words(proposal, sides):
    """
    A line of the list of proposals.
    """
    return {'proposal_id': proposal.number, 'title': proposal.title, 'category': proposal.category,
            'kind': proposal.kind, 'cycle': proposal.cycle, 'abstract': proposal.abstract,
            'caption_group': caption_group(proposal.abstract), 'split': sides[proposal.number]}


def _count(pictures, side):
    here = [line for line in pictures if line['split'] == side]
    return {'pictures': len(here), 'proposals': len(Counter(line['proposal_id'] for line in here)),
            'captions': len(Counter(line['caption_group'] for line in here))}
