"""
Numbers as tables of Markdown.
"""

__all__ = ['markdown_table']


def markdown_table(table):
    """
    Write a table in Markdown; numbers with three decimals, integers as they are.

    Parameters
    ----------
    table : dict
        ``columns`` and ``rows``.

    Returns
    -------
    text : str
        Lines of Markdown.
    """
    lines = ['| ' + ' | '.join(table['columns']) + ' |', '|' + '---|' * len(table['columns'])]
    for row in table['rows']:
        cells = [f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
