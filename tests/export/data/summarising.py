"""Proposals for the step `summarise`, and what it has written."""

import json


def write_proposals(folder, topics, **changes):
    """Write a proposal about each topic, and return the file."""
    path = folder / 'proposals.jsonl'
    path.write_text(''.join(json.dumps({
        'proposal_id': 10000 + i, 'title': f'A survey of {topic}', 'category': 'Galaxies',
        'abstract': f'We ask for pictures\nthat tell\nmore about {topic}. It is time.', **changes,
    }) + '\n' for i, topic in enumerate(topics)), encoding='utf-8')
    return path


def rows_of(path):
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]


def summaries(folder):
    """Rows of the summaries of a run."""
    return rows_of(folder / 'summaries.jsonl')


def failures(folder):
    """Rows of its failures."""
    return rows_of(folder / 'summaries.failed.jsonl')


def topics(n):
    """Name topics."""
    return [f'nebulae of kind {i:02d}' for i in range(n)]
