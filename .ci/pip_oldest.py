"""
``pip`` that takes the lower bound of each requirement in pyproject.toml for its exact version.

``tox -e test-oldestdeps`` installs through it, so that the bounds are never a second list.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = re.compile(r'(?P<name>[\w.-]+)(\[.*?\])?>=(?P<oldest>[\d.]+)[^;]*(?P<marker>;.*)?')


def oldest(project, extras=('test', 'asdf', 'plot', 'parquet', 'completion', 'mcp')):
    """
    Return one pip constraint per requirement of a ``[project]`` table.
    """
    requirements = project['dependencies'] + [
        requirement for extra in extras for requirement in project['optional-dependencies'][extra]]
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise SystemExit(f'no lower bound: {requirement}')
        yield f'{match["name"]}=={match["oldest"]} {match["marker"] or ""}'.strip()


if __name__ == '__main__':
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    with TemporaryDirectory() as folder:
        constraints = Path(folder, 'oldest.txt')
        constraints.write_text('\n'.join(oldest(project)) + '\n', encoding='utf-8')
        sys.exit(subprocess.call([sys.executable, '-m', 'pip', 'install', *sys.argv[1:],
                                  '--constraint', str(constraints)]))
