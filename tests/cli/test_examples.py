# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every command in the help, the README and the documentation runs as printed, on stand-ins.
"""

import argparse
import io
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astroclip_search import ClipSearchClass, sample
from astroclip_search.archives import table_io
from astroclip_search.cli import main
from astroclip_search.cli.parser import make_parser
from astroclip_search.search.session import Session
from tests.loopback import point_astroquery_at
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast
from tests.loopback.vo import Vo

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted([CHECKOUT / 'README.md', *(CHECKOUT / 'docs').glob('*.rst'),
                *(CHECKOUT / 'docs' / 'user_guide').glob('*.rst')])
EMBEDDED = CHECKOUT / 'astroclip_search' / 'model'

pytestmark = pytest.mark.skipif(
    not (EMBEDDED / 'astroclip.json').exists() or not (sample.IMAGE_DIR / 'previews').exists(),
    reason='the checkout has no embedded model or no sample archive')

# What stands in for a service of the Virtual Observatory.
SERVICES = {'https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/sia': 'sia2',
            'http://dc.g-vo.org/tap': 'tap'}

PLACES = {'M 104': (190.0, -11.62), 'M 51': (202.47, 47.2), 'M 42': (83.82, -5.39),
          'Antennae': (180.47, -18.87)}


def commands(parser, name=''):
    """Name and epilog of each command, with those below it."""
    yield name, parser.epilog or ''
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below, command in action.choices.items():
                yield from commands(command, f'{name} {below}'.strip())


def joined(lines):
    """Shell commands of one line each, with what goes on below."""
    whole = ''
    for line in lines:
        whole += line.strip().removeprefix('$ ')
        if whole.endswith('\\'):
            whole = whole[:-1]
        elif not whole.endswith('|'):
            yield whole
            whole = ''


def in_help():
    for name, epilog in commands(make_parser()):
        for line in joined(epilog.partition('examples:\n')[2].partition('\n\n')[0].splitlines()):
            yield f'--help {name}', line


def in_pages():
    for page in PAGES:
        text = page.read_text('utf-8')
        blocks = re.findall(r'```sh\n(.*?)```', text, re.DOTALL) + re.findall(
            r'code-block:: (?:sh|bash|shell|console)\n\n((?:[ \t]+\S.*\n|\n)+)', text)
        for block in blocks:
            for line in joined(block.splitlines()):
                yield page.name, line.partition('     #')[0]


def words(line):
    """The words of each program of a line: ``[['astroclip-search', ...], ['jq', ...]]``."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars='|&>;')
    lexer.whitespace_split = True
    programs, into = [[]], False
    for word in lexer:
        if word in ('|', '&&', ';'):
            programs.append([])
        elif word == '>':
            into = True
        elif not into:
            programs[-1].append(os.path.expanduser(word) if word.startswith('~') else word)
        else:
            into = False
    return programs


EXAMPLES = sorted({(where, line) for where, line in [*in_help(), *in_pages()]
                   if re.search(r'(^|[|&] *)astroclip-search ', line)})


def test_examples_are_found():
    """All that look like commands; every command has an example in its own help."""
    assert len(EXAMPLES) > 60
    assert {where for where, _ in EXAMPLES} >= {'README.md', 'install.rst', 'command_line.rst'}
    for name, epilog in commands(make_parser()):
        if epilog and name:
            assert any(where == f'--help {name}' and f'astroclip-search {name.split()[0]}' in line
                       for where, line in EXAMPLES), name


@pytest.fixture(scope='module')
def archives():
    """The pictures of the sample archive as MAST, and as a data centre, at the places named."""
    archive = Archive.sample()
    rows = [dict(row) for row in archive.rows if row['jpegURL'] in archive.files][:24]
    for i, row in enumerate(rows):
        ra, dec = list(PLACES.values())[i % len(PLACES)]
        corners = ' '.join(f'{ra + 0.001 * i + x} {dec + y}' for x, y in (
            (0.01, 0.01), (-0.01, 0.01), (-0.01, -0.01), (0.01, -0.01)))
        row |= {'s_ra': ra + 0.001 * i, 's_dec': dec, 'obs_collection': 'HST',
                's_region': f'POLYGON ICRS {corners}',
                'instrument_name': 'WFC3/UVIS', 'proposal_id': str(i % 5),
                'obs_title': f'Spiral galaxies, proplyds and protoplanetary disks {i}'}
    archive = Archive(rows, archive.files, names=PLACES)
    with Mast(archive) as mast, Vo.of_archive(archive) as vo:
        restore = point_astroquery_at(mast.url)
        yield vo
        restore()


@pytest.fixture(scope='module')
def stand_ins(archives, tmp_path_factory):
    """A folder with all that the examples read, and its cache."""
    from astroquery.mast import Observations

    folder, pictures = tmp_path_factory.mktemp('examples'), sorted(
        (sample.IMAGE_DIR / 'previews').glob('*.jpg'))
    result = Observations.query_criteria(obs_collection='HST')
    search = ClipSearchClass(cache_dir=folder / 'cache')
    best = search.query_text('spiral galaxy', limit=None)
    for name in ('result.ecsv', 'result.vot', 'a.vot'):
        table_io.write(result, folder / name)
    for name in ('best.ecsv', 'best.vot', 'ranked.ecsv', 'better.ecsv', 'search.ecsv',
                 'rings.ecsv', 'nights.ecsv'):
        table_io.write(best, folder / name)
    for name, picture in zip(('image.jpg', 'ring.jpg', 'planet.jpg'), pictures, strict=False):
        shutil.copy(picture, folder / name)
    y, x = np.mgrid[:64, :64]
    counts = (500 * np.exp(-np.hypot(x - 30, y - 30) / 8)
              + np.random.default_rng(0).poisson(99, x.shape))
    for name in ('other.fits', 'night/a.fits', 'my_fits_folder/a.fits', 'fits/a.fits',
                 'night_2026-11-20/a.fits'):
        (folder / name).parent.mkdir(exist_ok=True)
        fits.PrimaryHDU(counts.astype('f4'), fits.Header({
            'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'CRVAL1': 190.0, 'CRVAL2': -11.6,
            'CRPIX1': 32.0, 'CRPIX2': 32.0, 'CDELT1': -1e-4, 'CDELT2': 1e-4})).writeto(
                folder / name)
    (folder / 'observations').mkdir()
    (folder / 'my_model').symlink_to(EMBEDDED)
    return folder


@pytest.fixture
def shell(stand_ins, archives, tmp_path, monkeypatch, capfdbinary):
    """Run a line in a copy of the folder: exit codes, and the output of the last program."""
    folder = tmp_path / 'home'
    shutil.copytree(stand_ins, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv('HOME', str(folder))
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: stand_ins / 'cache' / 'embeddings.sqlite')
    monkeypatch.setattr('webbrowser.open', lambda address: True)
    monkeypatch.setattr('astroclip_search.diagnostics.selftest', lambda *args, **kwargs: {
        'ok': True, 'versions': {}, 'checks': [], 'variants': []})

    def run(line):
        piped, codes = b'', []
        for program in words(line):
            if program[:1] != ['astroclip-search']:
                continue
            given = [f'{archives.url}/{SERVICES[word]}' if word in SERVICES else word
                     for word in program[1:]]
            for before, word in itertools.pairwise(given):
                if before in ('--out', '--gallery') and word != '-':
                    (folder / word).unlink(missing_ok=True)  # a stand-in for another example
            if '--model' in given and '/' in (name := given[given.index('--model') + 1]):
                given[given.index(name)] = str(EMBEDDED)
            monkeypatch.setattr(sys, 'stdin', types.SimpleNamespace(buffer=io.BytesIO(piped)))
            codes.append(main(given))
            piped, err = capfdbinary.readouterr()
            assert b'astroclip-search: ' not in err, err.decode()
        return codes, piped

    return run


@pytest.mark.parametrize('line', sorted({line for _, line in EXAMPLES}))
def test_example_runs_as_printed(shell, monkeypatch, line):
    if 'completion' in line:
        pytest.importorskip('shtab')
    if 'models download' in line:  # tests/models/test_hub.py does
        make_parser().parse_args(words(line)[0][1:])
        return
    if ' mcp' in line:
        pytest.importorskip('mcp')
        monkeypatch.setattr('astroclip_search.mcp.server.main', lambda folders: None)
    if ' --moc ' in line:
        pytest.importorskip('mocpy')
    codes, out = shell(line)
    # A filter may keep nothing, and there may be nothing new.
    assert codes
    assert set(codes) <= ({0, 1} if ' filter ' in line or ' rerun ' in line else {0})
    written = re.findall(r'--(?:out|gallery|ds9|moc) ([^\s-]\S*)', line)
    assert all(Path(name).is_file() for name in written)
    if 'jq ' in line:
        assert all({'filename', 'clip_score'} <= row.keys() for row in json.loads(out)['rows'])
