# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tree of the package is the diagram of the package: one direction, and a door to each room.
"""

import ast
import graphlib
import inspect
import re
from collections import defaultdict
from pathlib import Path

import pytest

from astroclip_search import ClipSearchClass

CHECKOUT = Path(__file__).parents[1]
ROOT = CHECKOUT / 'astroclip_search'

# Each room imports only those before it; the command line has a command that starts the server.
ROOMS = ('status exceptions config untrusted sample vocabulary images archives models embeddings '
         'ranking places results search diagnostics mcp cli').split()

# Those that came after the 16 rooms of the house, each for a stage that it did not have.
ADDED = {'untrusted', 'places'}

# Underscore names of other libraries that the package uses, each with its reason.
FOREIGN = {
    '_exit': 'of os: ends a worker at once, whatever its threads do',
    '_current_frames': 'of sys: whether another thread is importing',
    '_getframe': 'of sys: a warning names the line of the user',
    '_model_bytes': 'of onnxruntime, which would keep a copy of the whole model file',
    '_auth_obj': 'of astroquery.mast: the server of the login',
    '_column_configs': 'of astroquery.mast, which remembers for good what a server has said once',
    '_original_response': 'of urllib3: where requests looks for cookies',
    '_portal_api_connection': 'of astroquery.mast, which shows its session nowhere else',
    '_replace': 'of namedtuple, whose names have the underscore to be apart from the fields',
    '_session': 'of astroquery.mast and pyvo: the credentials of a login',
}

# Names that the package had before its first release.
GONE = [r'\bPreviewError\b', r'\bclip_text\b', r'\bby=.text\b', r'\bexceedance\b',
        r'\bstandardise\b', r'\bTile\(', r'\bencode_words\b', r'\bmcp_(server|answers)\b']

TREES = {path.relative_to(ROOT): ast.parse(path.read_text('utf-8'))
         for path in sorted(ROOT.rglob('*.py')) if path.name != '_version.py'}


def module(path):
    """The parts of a module's name: ('cli', 'parser'), ('cli', '__init__') or ('status',)."""
    return path.with_suffix('').parts


MODULES = {module(path) for path in TREES}


def imports(path):
    """Each import of ours in a file, wherever it stands: its line, the module, the name in it."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            named = [(alias.name.split('.'), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ['astroclip_search', *path.parent.parts]
            base = package[:len(package) + 1 - node.level] if node.level else []
            base += node.module.split('.') if node.module else []
            named = [(base, alias.name) for alias in node.names]
        else:
            continue
        for (package, *parts), name in named:
            if package != 'astroclip_search':
                continue
            found = next((tried for tried in ((*parts, name), (*parts, name, '__init__'))
                          if name and tried in MODULES), None)
            if found:  # a module of a folder, not a name of a module
                yield node.lineno, found, None
            else:
                parts = tuple(parts) if tuple(parts) in MODULES else (*parts, '__init__')
                yield node.lineno, parts, name


def inside(path):
    """Whether a module stands in a room, not outside of all as ``__init__`` does."""
    return module(path)[0] not in ('__init__', '__main__')


def test_imports_are_understood():
    found = {(part, name) for _, part, name in imports(Path('cli/__init__.py'))}
    assert found >= {(('cli', 'output'), 'check'), (('config',), 'conf'),
                     (('exceptions',), 'expected_errors')}
    assert (('search', 'client'), 'ClipSearchClass') in {
        (part, name) for _, part, name in imports(Path('cli/output.py'))}  # if TYPE_CHECKING
    assert (('archives', 'table_io'), None) in {
        (part, name) for _, part, name in imports(Path('cli/output.py'))}


def test_rooms():
    rooms = {path.parts[0] for path in TREES} - {'__init__.py', '__main__.py'}
    assert {room.removesuffix('.py') for room in rooms} == set(ROOMS)
    assert len(rooms - ADDED | {'__main__.py'}) <= 16


def test_imports_go_one_way():
    wrong = []
    for path in filter(inside, TREES):
        room = module(path)[0]
        for line, (other, *_), name in imports(path):
            if other == '__init__':
                # The package itself imports every room.
                bad = name != '__version__'
            else:
                bad = ROOMS.index(other) > ROOMS.index(room)
            if bad:
                wrong.append(f'{path}:{line}: {room} imports {other}')
    assert wrong == []


def test_no_cycle_in_a_folder():
    graph = defaultdict(set)
    for path in filter(inside, TREES):
        graph[module(path)] |= {part for _, part, _ in imports(path) if part[0] == module(path)[0]}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_underscore_names_stay_in_their_module():
    wrong, used = [], set()
    for path, tree in TREES.items():
        private = [(line, f'import of {name or ".".join(part)}') for line, part, name in
                   imports(path) if is_private(name or part[-1]) and part != ('_version',)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                name, of = node.attr, node.value
            elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                  and node.func.id in ('getattr', 'setattr', 'hasattr', 'delattr')
                  and isinstance(node.args[1], ast.Constant)):
                name, of = node.args[1].value, node.args[0]
            else:
                continue
            own = ast.unparse(of) in ('self', 'cls', 'super()')
            if is_private(name) and not own:
                used.add(name)
                if name not in FOREIGN:
                    private.append((node.lineno, ast.unparse(node)))
        wrong += [f'{path}:{line}: {what}' for line, what in private]
    assert wrong == []
    assert used == FOREIGN.keys()


def is_private(name):
    return name.startswith('_') and not name.startswith('__')


def test_verbs_are_one_line_each():
    assert ClipSearchClass.__mro__ == (ClipSearchClass, object)
    client, = (node for node in TREES[Path('search/client.py')].body
               if isinstance(node, ast.ClassDef) and node.name == 'ClipSearchClass')
    verbs = [node for node in client.body
             if isinstance(node, ast.FunctionDef) and not node.name.startswith('_')]
    assert len(verbs) > 20
    assert [verb.name for verb in verbs
            if len(verb.body) != 1 + (ast.get_docstring(verb) is not None)] == []


@pytest.mark.parametrize('folder', sorted(path.parent for path in TREES
                                          if path.name == '__init__.py' and path.parent.parts))
def test_folders_say_in_a_paragraph_what_they_are(folder):
    said = inspect.cleandoc(ast.get_docstring(TREES[folder / '__init__.py']))
    assert len(said.split()) > 10
    assert '\n\n' not in said


def test_only_the_command_line_prints():
    assert [f'{path}:{node.lineno}' for path, tree in TREES.items() if path.parts[0] != 'cli'
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == 'print'] == []


def test_threads_leave_the_filters_of_warnings_alone():
    # The command line is alone in its process, and its filters are set before anything runs.
    # So is a worker that decodes.
    allowed = {Path('untrusted/quiet.py'), Path('cli/__init__.py'), Path('images/apart.py')}
    assert [f'{path}:{node.lineno}' for path, tree in TREES.items() if path not in allowed
            for node in ast.walk(tree)
            if (node.attr if isinstance(node, ast.Attribute) else
                node.id if isinstance(node, ast.Name) else
                node.name if isinstance(node, ast.alias) else '')
            in ('catch_warnings', 'simplefilter', 'filterwarnings', 'showwarning')
            ] == []


def test_modules_have_names_that_say_something():
    vague = {'common', 'helpers', 'misc', 'tools', 'util', 'utils'}
    assert [path for path in TREES if vague & set(module(path))] == []


def test_old_names_are_gone():
    gone, wrong = re.compile('|'.join(GONE)), []
    for folder in ('astroclip_search', 'docs', 'README.md', 'export', 'benchmarks', 'tests'):
        for path in [CHECKOUT / folder, *(CHECKOUT / folder).rglob('*')]:
            if (path.suffix not in ('.py', '.md', '.rst', '.ipynb') or path == Path(__file__)
                    or '_build' in path.parts or not path.is_file()):
                continue
            wrong += [f'{path.relative_to(CHECKOUT)}:{n}: {line.strip()[:80]}'
                      for n, line in enumerate(path.read_text('utf-8').splitlines(), 1)
                      if gone.search(line)]
    assert wrong == []
