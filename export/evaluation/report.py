"""
Numbers as a reader wants them: a Markdown file and plots.
"""

from html import escape
from pathlib import Path

from export.measures.tables import markdown_table

__all__ = ['VERDICTS', 'concept_list', 'dots', 'markdown', 'write']

#: What is said of a query, in the order of the lists.
VERDICTS = {'works': 'Works', 'weak': 'Weak', 'fails': 'Fails', 'few': 'Too few images to say'}

_ROW, _LEFT, _WIDTH, _PLOT = 18, 330, 760, 400


def markdown(result):
    """
    Write the report.

    Parameters
    ----------
    result : dict
        From `export.evaluation.evaluate.evaluate`.

    Returns
    -------
    text : str
        Markdown.
    """
    metrics = result['metrics']
    parts = [f"# What {metrics['bundle']['name']} is worth\n\n{metrics['reading']}\n"]
    if metrics['broken']:
        parts += ['\n**The evaluation is broken: ', '; '.join(metrics['broken']), '.**\n']
    for table in metrics['tables']:
        parts.append(f"\n## {table['title']}\n\n{table['text']}\n\n{markdown_table(table)}")
    for place, concepts in metrics['concepts'].items():
        parts.append(f'\n## Concepts: {place}\n\n{concept_list(concepts)}')
    if 'ranking' in result:
        parts.append(f"\n## Ranking weights\n\n{result['ranking']}\n")
    return ''.join(parts)


def concept_list(concepts):
    """
    List queries by how well they are answered.

    Parameters
    ----------
    concepts : dict
        Queries of each of `VERDICTS`.

    Returns
    -------
    text : str
        Lines of Markdown.
    """
    return ''.join(f"- {VERDICTS[verdict]}: {', '.join(queries)}.\n"
                   for verdict, queries in concepts.items() if queries)


def dots(title, rows, *, chance=None):
    """
    Draw values with intervals, one line each.

    Parameters
    ----------
    title : str
        What is drawn.
    rows : list of tuple
        Label, value, low and high end, all between 0 and 1.
    chance : float, optional
        Where chance is: a dashed line.

    Returns
    -------
    image : str
        SVG, which needs no plotting library.
    """
    height = 60 + _ROW * len(rows)
    size = f'width="{_WIDTH}" height="{height}"'
    font = 'font-family="sans-serif" font-size="12"'
    shapes = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
              f'<rect {size} fill="white"/>',
              f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>']
    for tick in range(0, 11, 2):
        x = _LEFT + _PLOT * tick / 10
        shapes += [f'<line x1="{x}" x2="{x}" y1="28" y2="{height - 22}" stroke="#ddd"/>',
                   f'<text x="{x}" y="{height - 8}" text-anchor="middle">{tick / 10:g}</text>']
    if chance is not None:
        x = _LEFT + _PLOT * chance
        shapes.append(f'<line x1="{x}" x2="{x}" y1="28" y2="{height - 22}" stroke="#888" '
                      'stroke-dasharray="4 3"/>')
    for i, (label, value, low, high) in enumerate(rows):
        y = 40 + _ROW * i
        x, start, end = (_LEFT + _PLOT * number for number in (value, low, high))
        shapes += [
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>',
            f'<path d="M{start:.1f} {y}H{end:.1f}" stroke="#36c" stroke-width="2"/>',
            f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="#36c"/>',
        ]
    return '\n'.join([*shapes, '</svg>\n'])


def write(result, out):
    """
    Write the Markdown file and the plots beside the JSON file.

    Parameters
    ----------
    result : dict
        From `export.evaluation.evaluate.evaluate`.
    out : path-like
        JSON file; the others have its name with ``.md``, ``-methods.svg`` and
        ``-queries.svg``.

    Returns
    -------
    files : list of `pathlib.Path`
        What was written.
    """
    out = Path(out)
    metrics = result['metrics']
    files = {out.with_suffix('.md'): markdown(result)}
    methods = [(f'{source}: {method}', *numbers['AUC'])
               for source, content in metrics['sources'].items()
               for method, numbers in content['methods'].items()]
    if methods:
        files[out.with_name(f'{out.stem}-methods.svg')] = dots(
            'Mean area under the ROC curve over queries, 95 % over images', methods, chance=0.5)
        files[out.with_name(f'{out.stem}-queries.svg')] = dots(
            'Area under the ROC curve by picture alone, 95 % over images',
            [(_short(f"{row['source']}: {row['query']}"), *row['AUC'])
             for row in metrics['queries']], chance=0.5)
    for path, text in files.items():
        path.write_text(text, encoding='utf-8')
    return list(files)


def _short(label, most=52):
    return label if len(label) <= most else label[:most - 1] + '…'
