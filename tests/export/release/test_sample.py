"""The sample archive: what is committed is what the generator makes, troubles included."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from PIL import Image

pytest.importorskip('scipy', reason='the synthetic sky needs scipy: install the extra [export]')

from export.release.sample import SIZE, main, render_previews, sample_table

FOLDER = Path(__file__).parents[3] / 'astroclip_search' / 'data' / 'sample'


@pytest.fixture(scope='module')
def committed():
    return Table.read(FOLDER / 'archive.ecsv')


@pytest.fixture(scope='module')
def made():
    return sample_table()


def test_generator_makes_the_committed_table(committed, made):
    table, _ = made
    assert committed.colnames == table.colnames
    assert committed.meta == table.meta
    for name in table.colnames:
        assert committed[name].tolist() == table[name].tolist(), name
        assert committed[name].unit == table[name].unit


def test_generator_makes_the_committed_previews(made, tmp_path):
    _, pictures = made
    names = sorted(path.name for path in (FOLDER / 'previews').iterdir())
    assert names == sorted(Path(name).name for name in pictures)
    some = dict(list(pictures.items())[::9])
    render_previews(some, tmp_path)
    for name in some:
        with Image.open(FOLDER / name) as image, Image.open(tmp_path / name) as again:
            assert image.size == again.size == (SIZE, SIZE)
            difference = np.abs(np.asarray(image, int) - np.asarray(again, int))
            # JPEG coders and Fourier transforms may differ in the last bit.
            assert difference.mean() < 2, name


def test_archive_is_small_and_complete():
    files = [path for path in FOLDER.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in FOLDER.glob('previews/*.jpg'):
        assert path.read_bytes()[:3] == b'\xff\xd8\xff'


def test_archive_says_that_it_is_synthetic(committed):
    assert set(committed['obs_collection']) == {'SYNTH'}
    assert 'no row is a real observation' in committed.meta['description']


def test_columns_are_those_of_mast(committed):
    assert 72 <= len(committed) <= 80
    assert committed['s_ra'].unit == u.deg
    assert committed['t_exptime'].unit == u.s
    assert len(set(committed['obsid'])) == len(committed)
    assert np.all((committed['s_ra'] >= 0) & (committed['s_ra'] < 360))
    assert np.all(np.abs(committed['s_dec']) <= 90)


def test_archive_has_the_troubles_of_real_ones(committed):
    url = committed['jpegURL']
    assert np.sum(url.mask) == 4
    present = [str(name) for name in url[~url.mask]]
    assert [name for name in present if name.startswith('http')] == ['http://localhost:9/gone.jpg']
    lost = [name for name in present if name.startswith('previews/')
            and not (FOLDER / name).exists()]
    assert lost == ['previews/lost.jpg']
    assert np.sum(committed['dataproduct_type'] == 'spectrum') == 1
    assert np.sum(committed['dataRights'] == 'EXCLUSIVE_ACCESS') == 1
    assert 0.1 < np.mean(committed['obs_title'].mask) < 0.5
    assert np.any(committed['target_classification'].mask)


def test_command(tmp_path, capsys, monkeypatch, made):
    table, pictures = made
    first = dict(list(pictures.items())[:2])
    monkeypatch.setattr('export.release.sample.sample_table', lambda: (table, first))
    stale = tmp_path / 'previews' / 'syn_9999.jpg'
    stale.parent.mkdir()
    stale.write_bytes(b'')
    assert main(['--out', str(tmp_path)]) == 0
    assert sorted(f'previews/{path.name}' for path in stale.parent.iterdir()) == sorted(first)
    assert len(Table.read(tmp_path / 'archive.ecsv')) == len(table)
    assert '2 previews' in capsys.readouterr().out
