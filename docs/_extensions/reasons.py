# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tables of messages on the page about statuses, made from the reasons of the package.
"""

import re

from sphinx.util.docutils import SphinxDirective

from astroclip_search import status

__all__ = ['Reasons', 'reasons_table', 'setup']


def reasons_table(name):
    """
    Write the messages of one status as reStructuredText.

    Parameters
    ----------
    name : str
        One of `astroclip_search.status.STATUSES`.

    Returns
    -------
    str
        A table of sentences and codes; an ellipsis stands where a sentence is completed.
    """
    lines = ['.. list-table::', '    :header-rows: 1', '    :widths: 70 30', '',
             '    * - ``clip_message``', '      - Code']
    for code, (usual, sentence) in status.REASONS.items():
        if usual == name:
            said = re.sub(r'([*`|_\\])', r'\\\1', re.sub(r'\{.*?\}', '…', sentence))
            lines += [f'    * - {said}', f'      - ``{code}``']
    return '\n'.join(lines)


class Reasons(SphinxDirective):
    """The messages of the status that is given as the argument."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(status.__file__)
        return self.parse_text_to_nodes(reasons_table(self.arguments[0]))


def setup(app):
    """Connect it."""
    app.add_directive('reasons', Reasons)
    return {'version': '1', 'parallel_read_safe': True, 'parallel_write_safe': True}
