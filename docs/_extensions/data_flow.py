# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The picture of the package, drawn from its folders and their imports, and the list of its modules.
"""

import ast
from collections import defaultdict
from html import escape
from textwrap import wrap

__all__ = ['module_table', 'order', 'picture', 'rooms', 'summaries']

WIDTH = 400
LINE = 17


def _modules(package):
    """Name, such as ``archives.mast``, and syntax tree of each module."""
    for file in sorted(package.rglob('*.py')):
        name = '.'.join(file.relative_to(package).with_suffix('').parts)
        if name != '_version':
            yield (name.removesuffix('.__init__'),
                   ast.parse(file.read_text(encoding='utf-8')), file.name == '__init__.py')


def summaries(package):
    """
    Read the first paragraph of the docstring of each module and folder.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the package.

    Returns
    -------
    dict
        Module, such as ``archives.mast``, -> what it says of itself.
    """
    return {name: ' '.join((ast.get_docstring(tree) or '').split('\n\n')[0].split())
            for name, tree, _ in _modules(package)}


def rooms(package):
    """
    Read which room of the package imports which.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the package.

    Returns
    -------
    dict
        Folder or module at the top -> set of those that it imports. The modules ``__init__`` and
        ``__main__``, which only pass on, are left out.
    """
    found = defaultdict(set)
    for name, tree, is_folder in _modules(package):
        room = name.partition('.')[0]
        if room in ('__init__', '__main__'):
            continue
        found[room]
        depth = name.count('.') + 1 + is_folder
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found[room].update(name.partition('.')[0] for name in names)
    return {room: {other for other in others if other in found and other != room}
            for room, others in found.items()}


def order(found):
    """
    Sort rooms so that each stands below all that it imports.

    Parameters
    ----------
    found : dict
        As from `rooms`.

    Returns
    -------
    list of str
        Rooms; those that import nothing come first.

    Raises
    ------
    ValueError
        If rooms import each other in a circle.
    """
    placed = []
    while left := [room for room in found if room not in placed]:
        ready = sorted(room for room in left if found[room] <= set(placed))
        if not ready:
            raise ValueError(f'rooms that import each other: {", ".join(sorted(left))}')
        placed += ready
    return placed


def _box(title, said, names, y):
    """Draw one room; return its SVG and its height."""
    lines = [(line, '') for line in wrap(said.replace('``', ''), 44)]
    lines += [(line, ' class="mono"') for line in wrap(' · '.join(names), 47,
                                                       break_long_words=False)]
    height = 30 + LINE * len(lines)
    frame = (f'<rect x="1" y="{y}" width="{WIDTH - 2}" height="{height}" rx="7" fill="none" '
             'stroke="currentColor" stroke-width="1.5"/>')
    text = [frame, f'<text x="14" y="{y + 20}" font-weight="bold">{escape(title)}</text>']
    text += [f'<text x="14" y="{y + 38 + LINE * i}"{kind}>{escape(line)}</text>'
             for i, (line, kind) in enumerate(lines)]
    return ''.join(text), height


def _inside(room, said):
    """Names of the modules of a folder."""
    return [name.removeprefix(f'{room}.') for name in said if name.startswith(f'{room}.')]


def picture(package):
    """
    Draw the picture: single modules in one box, then folder by folder, imports going upwards.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the package.

    Returns
    -------
    str
        SVG in the colour of the text around it.
    """
    said = summaries(package)
    placed = order(rooms(package))
    single = [room for room in placed if not _inside(room, said)]
    boxes = [('beside the folders', '', single)]
    boxes += [(room, said[room].partition(':')[0].partition('. ')[0].rstrip('.'),
               _inside(room, said)) for room in placed if room not in single]
    parts, y = [], 2
    for title, first, names in boxes:
        box, height = _box(title, first, names, y)
        parts.append(box)
        y += height + 8
    return (f'<svg class="data-flow" viewBox="0 0 {WIDTH} {y}" role="img" '
            'aria-label="The folders of the package, each below all that it imports, with the '
            'modules of each; the list below says the same in words." '
            'xmlns="http://www.w3.org/2000/svg" fill="currentColor" font-size="14">'
            f'{"".join(parts)}</svg>\n')


def module_table(package):
    """Write the list of modules, room by room, as reStructuredText."""
    said = summaries(package)
    lines = []
    for room in order(rooms(package)):
        inside = _inside(room, said)
        if not inside:
            lines += [f'``{room}``', f'    {said[room]}', '']
            continue
        lines += [f'``{room}/``', f'    {said[room]}', '']
        for name in inside:
            lines.append(f'    - ``{name}``: {said[f"{room}.{name}"]}')
        lines.append('')
    return '\n'.join(lines)
