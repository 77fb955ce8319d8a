"""Folders of export/ import from those before them only, as its docstring says."""

import ast
from pathlib import Path

import export

ROOT = Path(export.__file__).parent
LINE, = (line for line in export.__doc__.splitlines() if '->' in line)
#: Folder -> its place. Those of one place do not know each other.
PLACES = {folder.strip(): place for place, folders in enumerate(LINE.split('->'))
          for folder in folders.split(',')}


def imported(path):
    """Yield what a file imports of export/, inside functions too: parts of names."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        yield from (name.split('.')[1:] for name in names if name.split('.')[0] == 'export')


def test_every_folder_has_a_place():
    assert PLACES.keys() == {path.parent.name for path in ROOT.glob('*/__init__.py')}


def test_imports_go_one_way():
    wrong = []
    for path in sorted(ROOT.glob('*/*.py')):
        here = path.parent.name
        wrong += [f'{here}/{path.name} imports {".".join(name)}' for name in imported(path)
                  if name[0] != here and PLACES.get(name[0], len(PLACES)) >= PLACES[here]]
    assert wrong == []
