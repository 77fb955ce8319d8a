# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The command that says where something is, and the files that it writes for other programs.
"""

import json

import pytest
from astropy.io import fits
from astropy.table import Table, vstack

from astroclip_search.search.client import ClipSearchClass
from tests.places.made import places_of
from tests.places.test_regions import BOXES, tangent

mocpy = pytest.importorskip('mocpy', reason='makes coverage maps')


@pytest.fixture
def places(tmp_path, monkeypatch):
    """What is located, whatever is asked; the call is remembered."""
    monkeypatch.chdir(tmp_path)
    fits.writeto('a.fits', Table({'x': [1]}).as_array(), overwrite=True)
    found = vstack([places_of(tmp_path / 'a.fits', BOXES, wcs=tangent(), name='a'),
                    places_of('', [], row=1, name='b')])
    found.meta['clip'] = {'query': ['tidal tail'], 'n_rows': 2, 'status': {'OK': 1, 'NO_IMAGE': 1}}
    asked = []

    def locate(self, results, text=None, *, n=1, **options):
        asked.append((results, text, n, options))
        return found

    monkeypatch.setattr(ClipSearchClass, 'locate', locate, raising=False)
    monkeypatch.setattr('astroclip_search.search.session.Session.warm_up', lambda self: None)
    found.asked = asked
    return found


def test_places_are_printed(command, places):
    code, out, err = command('locate', 'a.fits', 'tidal tail', '-n', 5)
    assert (code, err) == (0, [])
    assert places.asked == [('a.fits', 'tidal tail', 5, {})]
    assert out[0].split() == ['name', 'place', 'x', 'y', 'ra', 'dec', 'score', 'false_alarm',
                              'status']
    assert out[1].split() == ['a', '1', '26.0', '40.0', f'{places["ra"][0]:.6f}',
                              f'{places["dec"][0]:.6f}', '5.00', '0.001', 'OK']
    assert any(line.startswith('2 rows (1 NO_IMAGE, 1 OK)') for line in out)
    assert '2 places' in out


def test_files_for_other_programs(command, places):
    code, out, _ = command('locate', 'a.fits', 'tail', '--ds9', 'a.reg', '--moc', 'moc.fits',
                           '--out', 'a.vot')
    assert code == 0
    assert '2 places, regions: a.reg, coverage map: moc.fits' in out
    with open('a.reg') as file:
        assert file.read().count('icrs; polygon') == 2
    assert not mocpy.MOC.from_fits('moc.fits').empty()
    assert Table.read('a.vot')['clip_box'].shape == (3, 4)
    for option, name in (('--ds9', 'a.reg'), ('--moc', 'moc.fits'), ('--out', 'a.vot')):
        code, _, err = command('locate', 'a.fits', 'tail', option, name)
        assert (code, 'already' in err[0]) == (2, True)
        assert command('locate', 'a.fits', 'tail', option, name, '--overwrite')[0] == 0
    assert command('locate', 'a.fits', 'tail', '--json', '-q')[0] == 0


def test_json(command, places):
    code, out, _ = command('locate', 'a.fits', 'tail', '--json', '-q')
    assert (code, json.loads('\n'.join(out))['n_rows']) == (0, 3)


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--ds9', 'a.fits', '--overwrite'], 'is an input'),
    (['--ds9', 'x', '--moc', 'x'], 'The coverage map and the region file are both'),
    (['--out', 'x.vot', '--moc', 'x.vot'], 'The coverage map and the table are both'),
    (['-n', '0'], 'is not a number of at least 1')])
def test_what_cannot_be(command, places, arguments, said):
    code, _, err = command('locate', 'a.fits', 'tail', *arguments)
    assert (code, said in err[0]) == (2, True)
    assert places.asked == []


def test_without_positions_the_table_is_not_lost(command, places):
    places['s_region'] = ''
    places['clip_source'] = 'a.png'
    code, _, err = command('locate', 'a.fits', 'tail', '--moc', 'm.fits', '--out', 'a.ecsv')
    assert (code, 'no coverage map' in err[-1]) == (2, True)
    assert len(Table.read('a.ecsv')) == 3


def test_nowhere(command, places):
    places['clip_status'] = 'NO_IMAGE'
    assert command('locate', 'a.fits', 'tail')[0] == 1


def test_moc_needs_mocpy(command, places, monkeypatch):
    monkeypatch.setattr('astroclip_search.cli.searching.find_spec', lambda name: None)
    code, _, err = command('locate', 'a.fits', 'tail', '--moc', 'm.fits')
    assert (code, '[regions]' in err[0]) == (2, True)
    assert places.asked == []
