# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Comparisons -> tables for the documentation, with machine, versions, date and command.

The numbers are kept in a JSON file beside the tables, so that one benchmark can be measured anew
and the rest stays.
"""

import itertools
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .comparison import Comparison, amount

__all__ = ['machine', 'measured', 'versions', 'write']

PACKAGES = ('astroclip-search', 'numpy', 'astropy', 'pillow', 'onnxruntime', 'onnxruntime-gpu',
            'torch', 'transformers', 'open_clip_torch', 'sentence-transformers', 'fastembed',
            'openvino')

HEADER = ('What', 'Beside', 'Ratio or value', 'Spread', 'Demanded')


def machine() -> str:
    """Name the processor, its cores and the accelerator, if there is one."""
    model = platform.processor() or platform.machine()
    cpus = Path('/proc/cpuinfo')
    if cpus.exists():
        model = next((line.partition(':')[2].strip() for line in cpus.read_text().splitlines()
                      if line.startswith('model name')), model)
    memory = ''
    if hasattr(os, 'sysconf'):
        size = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
        memory = f', {size:.0f} GiB'
    return (f'{model} ({platform.machine()}), {os.cpu_count()} cores{memory}, '
            f'{platform.system()}, Python {platform.python_version()}')


def versions() -> dict[str, str]:
    """Versions of what is compared, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measured(comparisons: list[Comparison], command: str, about: str, took: float) -> dict:
    """
    Put one benchmark into plain data.

    Parameters
    ----------
    comparisons : list of Comparison
        What it found.
    command : str
        The command that repeats it.
    about : str
        What it is, in one sentence.
    took : float
        Its duration in seconds.

    Returns
    -------
    dict
        What `write` takes.
    """
    return {
        'about': about, 'command': command, 'took': round(took), 'machine': machine(),
        'versions': versions(), 'load': round(os.getloadavg()[0], 1),
        'date': datetime.now(UTC).strftime('%Y-%m-%d'),
        'comparisons': [{
            'group': one.group, 'name': one.name, 'peer': one.peer, 'unit': one.unit,
            'ours': one.ours, 'theirs': one.theirs, 'value': one.value, 'spread': one.spread,
            'shown': one.shown, 'range': one.range, 'target': one.target,
            'verdict': one.verdict, 'notes': one.notes} for one in comparisons]}


def write(path: str | os.PathLike, sections: dict[str, dict]) -> None:
    """
    Write tables, and the numbers beside them.

    Parameters
    ----------
    path : path-like
        File of reStructuredText to write. What the JSON file of the same name holds of other
        benchmarks is kept.
    sections : dict of str to dict
        Name of a benchmark -> what `measured` returned.
    """
    path = Path(path)
    numbers = path.with_suffix('.json')
    kept = json.loads(numbers.read_text(encoding='utf-8')) if numbers.exists() else {}
    sections = kept | sections
    numbers.write_text(json.dumps(sections, indent=1) + '\n', encoding='utf-8')
    lines = ['.. Written by ``python -m benchmarks --write``; not to be edited.', '']
    for name, section in sections.items():
        lines += [*_section(name, section), '']
    path.write_text('\n'.join(lines).rstrip() + '\n', encoding='utf-8')


def _section(name: str, section: dict) -> list[str]:
    """
    Return a heading, what it is, the table, the notes, and where it was measured.
    """
    title = name.replace('_', ' ').capitalize()
    lines = [title, '-' * len(title), '', section['about'], '']
    for group, rows in itertools.groupby(section['comparisons'], key=lambda one: one['group']):
        lines += [f'.. list-table:: {group}'.rstrip(), '    :header-rows: 1',
                  '    :widths: 36 28 12 12 12', '', *_row(HEADER)]
        for one in rows:
            beside = bool(one['theirs'])
            lines += _row([
                one['name'] + (amount(one['ours'], one['unit']) if beside else ''),
                one['peer'] + amount(one['theirs'], one['unit']) if beside else '',
                one['shown'], one['range'],
                f'{one["target"]}: {one["verdict"]}' if one['target'] else ''])
        lines.append('')
    for one in section['comparisons']:
        if one['notes']:
            title = f'{one["group"]}, {one["name"]}' if one['group'] else one['name']
            lines += [f'{title}::', '', *(f'    {note}' for note in one['notes']), '']
    packages = ', '.join(f'{name} {number}' for name, number in section['versions'].items())
    where = (f'``{section["command"]}``, {section["took"]} s, {section["date"]}, load '
             f'{section["load"]}. {section["machine"]}. {packages}.')
    return [*lines, where]


def _row(cells: Sequence[str]) -> list[str]:
    return [f'    {" " if i else "*"} - {cell}'.rstrip() for i, cell in enumerate(cells)]
