# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The picture of the data flow, drawn from the names of the modules, and the list of what each does.
"""

import ast
from html import escape
from textwrap import wrap

__all__ = ['STAGES', 'missing', 'module_table', 'picture', 'summaries']

#: What a stage does, its modules, and what it hands on.
STAGES = [
    ('Ask', 'queries vo_queries phrases archives.mast archives.dal archives.services',
     'Table: the rows of a query, untouched'),
    ('Say where the image of each row is', """
     archives archives.tables archives.columns archives.files archives.vo archives.sky
     archives.colour archives.hips archives.readings table_files references links datalink
     buckets""", 'References: one source, status and words a row'),
    ('Fetch', 'previews connections', 'bytes, or the reason why there are none'),
    ('Draw', 'pixels planes composites', 'uint8 (n, s, s, 3)'),
    ('Embed', 'embeddings encoder sessions bundle hub', 'float32 (n, d), unit vectors'),
    ('Keep', 'store', 'float32 (n, d), of now or of before'),
    ('Compare with phrases and examples',
     'query examples vocabulary scoring ranking diversity', 'scores and an order'),
    ('Answer', 'ranked described', 'Table: the same rows, best first, clip_* columns'),
    ('Show', 'display gallery charts progress', 'HTML, Axes, text'),
]
AROUND = [
    ('The verbs, which know all of these',
     'search queries vo_queries feedback descriptions pictures plots vectors'),
    ('Ways in', """
     cli cli.parser cli.searching cli.upkeep cli.output mcp_server mcp_answers __main__"""),
    ('Beside', '__init__ exceptions sample selftest versions'),
]

WIDTH = 400
LINE = 17


def summaries(package):
    """
    Read the first paragraph of the docstring of each module.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the package.

    Returns
    -------
    dict
        Module, such as ``archives.mast``, -> what it says of itself.
    """
    found = {}
    for file in sorted(package.rglob('*.py')):
        name = '.'.join(file.relative_to(package).with_suffix('').parts)
        if name != '_version':
            text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
            found[name.removesuffix('.__init__')] = ' '.join(text.split('\n\n')[0].split())
    return found


def missing(package):
    """List the modules that the picture does not have."""
    drawn = {name for _, names, *_ in (*STAGES, *AROUND) for name in names.split()}
    return sorted(set(summaries(package)) - drawn)


def _box(title, names, y):
    """Draw one stage; return its SVG and its height."""
    lines = wrap(' · '.join(names.split()), 47, break_long_words=False)
    height = 30 + LINE * len(lines)
    frame = (f'<rect x="1" y="{y}" width="{WIDTH - 2}" height="{height}" rx="7" fill="none" '
             'stroke="currentColor" stroke-width="1.5"/>')
    text = [frame, f'<text x="14" y="{y + 20}" font-weight="bold">{escape(title)}</text>']
    text += [f'<text x="14" y="{y + 38 + LINE * i}" class="mono">{escape(line)}</text>'
             for i, line in enumerate(lines)]
    return ''.join(text), height


def picture(package):
    """
    Draw the picture.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the package; names of modules that it does not have are left out.

    Returns
    -------
    str
        SVG in the colour of the text around it.
    """
    present = summaries(package)
    parts, y = [], 2
    for title, names, product in STAGES:
        names = ' '.join(name for name in names.split() if name in present)
        box, height = _box(title, names, y)
        y += height
        parts.append(box)
        parts.append(f'<path d="M30 {y + 3} V{y + 23} m-5 -7 l5 7 l5 -7" fill="none" '
                     f'stroke="currentColor" stroke-width="1.5"/>'
                     f'<text x="44" y="{y + 18}" font-style="italic">{escape(product)}</text>')
        y += 27
    y += 12
    for title, names in AROUND:
        names = ' '.join(name for name in names.split() if name in present)
        box, height = _box(title, names, y)
        y += height + 8
        parts.append(box)
    return (f'<svg class="data-flow" viewBox="0 0 {WIDTH} {y}" role="img" '
            'aria-label="The stages from a query to a ranked table, with the modules of each; the '
            'list below says the same in words." xmlns="http://www.w3.org/2000/svg" '
            f'fill="currentColor" font-size="14">{"".join(parts)}</svg>\n')


def module_table(package):
    """Write the list of modules, by stage, as reStructuredText."""
    said = summaries(package)
    lines = []
    for title, names, *_ in (*STAGES, *AROUND):
        lines += [f'**{title}**', '']
        for name in filter(said.get, names.split()):
            lines.append(f'- ``{name}``: {said[name]}')
        lines.append('')
    return '\n'.join(lines)
