# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tutorial on one's own files, as printed, with the packages of the extra ``all`` alone.

The other tutorials are run when the documentation is built, where there are more packages.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PAGE = CHECKOUT / 'docs' / 'tutorials' / 'rank_own_files.md'

# What other packages of a machine bring, and `all` does not.
ABSENT = ('scipy', 'sklearn', 'torch', 'faiss', 'IPython')

pytestmark = pytest.mark.skipif(
    not PAGE.exists() or not (CHECKOUT / 'astroclip_search' / 'model' / 'astroclip.json').exists(),
    reason='there is no documentation or no embedded model beside the tests')


def cells(text):
    """The code of a page, without what readers do not see."""
    for cell in re.findall(r'```\{code-cell\}\n(.*?)```', text, re.DOTALL):
        if 'remove-cell' not in cell:
            yield re.sub(r'\A(---\n.*?---\n|(:\w+:.*\n)+)', '', cell, flags=re.DOTALL)


def test_the_tutorial_on_own_files(tmp_path):
    code = '\n'.join(cells(PAGE.read_text('utf-8')))
    assert code.count('ClipSearch.') > 4
    script = tmp_path / 'tutorial.py'
    script.write_text(
        f'import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n{code}\n'
        'print(best["target_name"][:3].tolist())\n', 'utf-8')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False,
                          timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    # "The two galaxies seen from the side come first, and a third that is tilted."
    *side, tilted = ast.literal_eval(done.stdout.splitlines()[-1])
    assert (sorted(side), tilted) == (['IC 2233', 'NGC 891'], 'NGC 3115')
    assert (tmp_path / 'edge_on.html').is_file()
    assert (tmp_path / 'edge_on.ecsv').is_file()


def test_the_tutorial_on_places(tmp_path):
    code = '\n'.join(cells((PAGE.parent / 'where_in_a_mosaic.md').read_text('utf-8')))
    script = tmp_path / 'tutorial.py'
    script.write_text(
        'import sys\nimport matplotlib\nmatplotlib.use("agg")\n'
        f'sys.modules.update(dict.fromkeys({ABSENT!r}))\n{code}\n'
        'print([float(places[name][0]) for name in ("clip_x", "clip_y")])\n', 'utf-8')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False,
                          timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    # "The pair is at (1130, 480), with tails of some 200 pixels around it."
    x, y = ast.literal_eval(done.stdout.splitlines()[-1])
    assert abs(x - 1155) < 150
    assert abs(y - 493) < 150
    assert (tmp_path / 'tails.reg').read_text().count('icrs; polygon') == 3
