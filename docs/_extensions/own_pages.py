# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What this documentation adds to Sphinx: notebooks to download, the picture of the data flow, and a
check of all inner links.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data_flow import module_table, picture
from sphinx.errors import SphinxError

__all__ = ['setup']


def _plain(text):
    """Replace what Jupyter does not know of MyST, and leave out what is of the page alone."""
    def note(match):
        if 'another server answers' in match[1]:
            return ''
        return ''.join(f'> {line}\n' for line in match[1].splitlines())

    def role(match):
        name = match[3]
        if match[2]:  # ~
            name = name.rpartition('.')[2]
        return f'`{name.strip().removeprefix("../")}`'

    text = re.sub(r'\s*\{download\}`[^`]*`', '', text)
    text = re.sub(r'```\{note\}\n(.*?)```\n', note, text, flags=re.DOTALL)
    return re.sub(r'\{([\w:]+)\}`(~?)([^`<]*)(?:<[^`]*>)?`', role, text)


def write_notebooks(app):
    """Write each tutorial as a notebook without output, for readers to download."""
    import nbformat
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    folder = Path(app.srcdir, 'tutorials', 'notebooks')
    folder.mkdir(exist_ok=True)
    for page in Path(app.srcdir, 'tutorials').glob('*.md'):
        notebook = read_myst_markdown_notebook(page.read_text(encoding='utf-8'), MdParserConfig())
        notebook.cells = [cell for cell in notebook.cells
                          if 'remove-cell' not in cell.metadata.get('tags', [])]
        for number, cell in enumerate(notebook.cells):
            cell['id'] = f'cell-{number}'
            cell.metadata.pop('tags', None)
            if cell.cell_type == 'markdown':
                cell.source = _plain(cell.source)
        text = nbformat.writes(nbformat.from_dict(notebook), version=nbformat.NO_CONVERT)
        target = folder / f'{page.stem}.ipynb'
        if not target.is_file() or target.read_text(encoding='utf-8') != text:
            target.write_text(text, encoding='utf-8')


def draw_data_flow(app):
    """Draw the folders of the package; fail if they import each other in a circle."""
    package = Path(app.srcdir).parent / 'astroclip_search'
    folder = Path(app.srcdir, 'development')
    for name, text in (('data_flow.svg', picture(package)), ('modules.inc', module_table(package))):
        if not (folder / name).is_file() or (folder / name).read_text(encoding='utf-8') != text:
            (folder / name).write_text(text, encoding='utf-8')


class _Links(HTMLParser):
    """The addresses that a page points to, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.anchors = set(), {'', '#'}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(filter(None, (attrs.get('id'), attrs.get('name'))))
        self.addresses.update(filter(None, (attrs.get('href'), attrs.get('src'))))


def dead_links(folder):
    """
    List the links within a folder of HTML pages that lead nowhere.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the pages are.

    Returns
    -------
    list of str
        Page and address of each.
    """
    pages = {page.resolve(): _Links(page.read_text(encoding='utf-8'))
             for page in Path(folder).rglob('*.html') if '_static' not in page.parts}
    dead = []
    for page, links in pages.items():
        for address in sorted(links.addresses):
            url = urlsplit(address)
            if url.scheme or url.netloc:
                if url.hostname in ('127.0.0.1', 'localhost'):
                    dead.append(f'{page.relative_to(Path(folder).resolve())}: {address}')
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            anchors = pages[target].anchors if target in pages else {unquote(url.fragment)}
            if not target.exists() or unquote(url.fragment) not in anchors:
                dead.append(f'{page.relative_to(Path(folder).resolve())}: {address}')
    return dead


def without_stand_ins(app, page, template, context, doctree):
    """Take out links to the stand-ins of archives, which are gone when the page is read."""
    if 'body' in context:
        context['body'] = re.sub(r'<a\b[^>]*href="http://127\.0\.0\.1[^>]*>.*?</a>(\s*·\s*)?', '',
                                 context['body'])


def check_links(app, error):
    """Fail the build if a link within the documentation leads nowhere."""
    if error or app.builder.name != 'html':
        return
    dead = dead_links(Path(app.outdir))
    if dead:
        raise SphinxError('dead links:\n' + '\n'.join(dead))


def setup(app):
    """Connect it."""
    app.connect('builder-inited', write_notebooks)
    app.connect('builder-inited', draw_data_flow)
    app.connect('html-page-context', without_stand_ins)
    app.connect('build-finished', check_links)
    return {'version': '1', 'parallel_read_safe': True, 'parallel_write_safe': True}
