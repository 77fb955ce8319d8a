# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the headers of the user's own files and objects say, in columns.
"""

import bz2
import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import ClipSearchClass
from astroclip_search.archives import headers
from astroclip_search.archives.headers import as_columns, of_files, of_objects
from astroclip_search.archives.open import open_results
from tests.archives.test_centres import PLAIN, expected
from tests.colours import ColourEncoder, content, picture
from tests.images.test_avm import TAGS, jpeg
from tests.loopback.archive import SHARED_DATA

NUMBERS = np.arange(200 * 300, dtype='f4').reshape(200, 300)
SKY = {key: value for key, value in PLAIN.items() if not key.startswith('NAXIS')}
WORDS = {'OBJECT': 'M 42', 'TELESCOP': 'VLT', 'INSTRUME': 'FORS2', 'FILTER': 'r_SPECIAL',
         'DATE-OBS': '2026-11-20T12:00:00', 'EXPTIME': 120.0}


def write(path, cards=(), data=NUMBERS):
    fits.writeto(path, data, fits.Header(dict(cards)), overwrite=True)
    return str(path)


def facts(path):
    return of_files([str(path)])[0]


@pytest.fixture
def search(tmp_path):
    return ClipSearchClass(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


# ---- columns -----------------------------------------------------------------------------


def test_columns_of_a_folder(tmp_path):
    write(tmp_path / 'a.fits', SKY | WORDS)
    write(tmp_path / 'b.fits')
    (tmp_path / 'c.png').write_bytes(content('red'))
    table, refs = open_results(tmp_path)
    assert table.colnames == ['filename', 'target_name', 's_ra', 's_dec', 'facility_name',
                              'instrument_name', 'filters', 't_min', 't_exptime']
    assert [table[name][0] for name in table.colnames[1:] if table[name].dtype.kind == 'U'] == [
        'M 42', 'VLT', 'FORS2', 'r_SPECIAL']
    np.testing.assert_allclose([table['s_ra'][0], table['s_dec'][0]], expected(PLAIN), atol=1e-9)
    assert (table['s_ra'].unit, table['s_dec'].unit, table['s_ra'].dtype) == (u.deg, u.deg, 'f8')
    assert table['t_min'][0] == 61364.5
    assert table['t_exptime'].quantity[0] == 120 * u.s
    for name in table.colnames[1:]:
        assert list(table[name].mask) == [False, True, True]
        if table[name].dtype.kind == 'f':
            assert np.isnan(np.asarray(table[name].data.data)[1:]).all()
    assert list(refs.metadata) == ['M 42', '', '']


def test_what_no_file_says_has_no_column(tmp_path):
    write(tmp_path / 'a.fits', {'INSTRUME': 'CAM1'})
    assert open_results(tmp_path)[0].colnames == ['filename', 'instrument_name']
    assert as_columns([]) == as_columns(of_objects([NUMBERS, None])) == {}


def test_a_table_of_the_user_is_not_touched(tmp_path):
    table = Table({'filename': [write(tmp_path / 'a.fits', SKY | WORDS)]})
    assert open_results(table, image_dir=tmp_path)[0].colnames == ['filename']


# ---- words -------------------------------------------------------------------------------


@pytest.mark.parametrize(('cards', 'target'), [
    ({'OBJECT': 'Horsehead Nebula'}, 'Horsehead Nebula'), ({'TARGNAME': 'NGC-104'}, 'NGC-104'),
    ({'OBJECT': 'UNKNOWN', 'TARGNAME': 'NGC-104'}, 'NGC-104'), ({'OBJECT': ''}, ''),
    ({'TARGNAME': 'UNKNOWN', 'TARGPROP': 'Disk 3'}, 'Disk 3'), ({'TARGET': '47 Tuc'}, '47 Tuc'),
    ({'FIELD': 'COSMOS field'}, 'COSMOS field'), ({'OBJECT': 'V'}, 'V'),
    ({'OBJECT': '3C 273'}, '3C 273'),
    ({'OBJECT': 'M 31'}, 'M 31'), ({'OBJECT': 'Dark Cloud'}, 'Dark Cloud'), ({'OBJECT': 5}, ''),
    ({'HIERARCH ESO OBS TARG NAME': 'HD 1', 'OBJECT': 'OBJECT'}, 'HD 1'), ({'OBJECT': 'Bias'}, ''),
    ({'OBJECT': "Barnard's star"}, "Barnard's star"), ({'OBJECT': ' a  b '}, 'a b'),
    *(({'OBJECT': name}, '') for name in (
        'BIAS', 'dark 300s', 'FLAT,LAMP', 'dome flat', 'skyflat_2', 'none', 'N/A', '??', '-', 'ANY',
        'std', 'Object 12', 'test', 'xr_m.map', 'cam1_0004.fits')),
], ids=str)
def test_targets(cards, target, tmp_path):
    path = write(tmp_path / 'a.fits', cards)
    assert facts(path).target == target
    assert of_objects([fits.PrimaryHDU(NUMBERS, fits.Header(cards))])[0].target == target


@pytest.mark.parametrize(('cards', 'filters'), [
    ({'FILTER': 'r'}, 'r'), ({'FILTER1': 'CLEAR1L', 'FILTER2': 'F814W'}, 'F814W'),
    ({'FILTER1': 'F606W', 'FILTER2': 'POL0V'}, 'F606W;POL0V'), ({'FILTNAM1': 'F439W'}, 'F439W'),
    ({'FILTER': 'F444W', 'PUPIL': 'F470N'}, 'F444W;F470N'), ({'FILTER': 'CLEAR'}, ''),
    ({'FILTER': 'F444W', 'PUPIL': 'MASKRND'}, 'F444W'), ({'BAND': 'K'}, 'K'), ({'FILTER': 3}, ''),
    ({'FILTER': 'CLEAR', 'PUPIL': 'F200W'}, 'F200W'), ({'FILTER': 'open', 'BAND': 'J'}, 'J'),
    ({'HIERARCH ESO INS FILT1 NAME': 'R_SPEC'}, 'R_SPEC'), ({'FILTER': 'airy disk'}, 'airy disk'),
], ids=str)
def test_filters(cards, filters, tmp_path):
    assert facts(write(tmp_path / 'a.fits', cards)).filters == filters


@pytest.mark.parametrize(('cards', 'instrument'), [
    ({'INSTRUME': 'ACS', 'DETECTOR': 'WFC', 'TELESCOP': 'HST'}, 'ACS/WFC'),
    ({'INSTRUME': 'CAM', 'DETECTOR': 'E2V 42-40'}, 'CAM'), ({'DETECTOR': 'WFI'}, 'WFI')])
def test_instruments(cards, instrument, tmp_path):
    assert facts(write(tmp_path / 'a.fits', cards)).instrument == instrument


@pytest.mark.parametrize(('cards', 'start'), [
    ({'MJD-OBS': 58339.5}, 58339.5), ({'DATE-OBS': '2000-09-27'}, 51814),
    ({'DATE-OBS': '29/11/51'}, 33979), ({'DATE-OBS': '2018-07-25T12:00:00.000Z'}, 58324.5),
    ({'DATE-OBS': '2018-07-25', 'TIME-OBS': '18:00:00'}, 58324.75),
    ({'EXPSTART': 53000.25, 'DATE-OBS': 'x'}, 53000.25), ({'MJD-OBS': 0.0}, np.nan),
    ({'DATE-OBS': '2018-13-45'}, np.nan), ({'DATE-OBS': ''}, np.nan), ({'DATE-OBS': 5}, np.nan),
    ({'DATE-OBS': '0001-01-01'}, np.nan), ({'DATE-BEG': '2000-09-27'}, 51814)], ids=str)
def test_start(cards, start, tmp_path):
    np.testing.assert_equal(facts(write(tmp_path / 'a.fits', cards)).start, start)


def test_exposure(tmp_path):
    assert facts(write(tmp_path / 'a.fits', {'EXPTIME': '53.9'})).exposure == 53.9
    # In minutes (DSS) or days (TESS).
    assert np.isnan(facts(write(tmp_path / 'b.fits', {'EXPOSURE': 65.0})).exposure)


def test_long_strings_and_those_that_command_a_terminal(tmp_path):
    title = 'A survey of edge-on galaxies ' * 5
    path = write(tmp_path / 'a.fits', {'TITLE': title, 'OBJECT': 'a' * 500})
    assert facts(path).title == title.strip()
    assert facts(path).target == 'a' * 100
    raw = Path(path).read_bytes().replace(b'A survey', b'\x1b]0;\xe9\n  ')
    Path(path).write_bytes(raw)
    assert facts(path).title.startswith(']0;é of edge-on')
    assert facts(path).title.isprintable()


# ---- which header ------------------------------------------------------------------------


def hst():
    """The layout of HST's flat-fielded images, where tables of distortion are named."""
    chips = []
    for number, crpix2 in ((1, 230.0), (2, 0.0)):
        header = fits.Header(SKY | {'CRPIX2': crpix2, 'CPDIS1': 'LOOKUP', 'DP1.EXTVER': 1.0,
                                    'D2IMDIS1': 'LOOKUP'})
        chips += [fits.ImageHDU(NUMBERS, header, name='SCI', ver=number),
                  fits.ImageHDU(NUMBERS, header, name='ERR', ver=number)]
    primary = fits.Header({'TELESCOP': 'HST', 'INSTRUME': 'ACS', 'DETECTOR': 'WFC',
                           'TARGNAME': 'NGC104', 'FILTER1': 'F606W', 'FILTER2': 'CLEAR2L',
                           'RA_TARG': 1.0, 'DEC_TARG': 2.0})
    return fits.HDUList([fits.PrimaryHDU(header=primary), *chips])


def test_two_chips(tmp_path):
    hdus = hst()
    hdus.writeto(tmp_path / 'a.fits')
    middle = SkyCoord(*expected(PLAIN | {'CRPIX2': 115.0}), unit='deg')
    for found in (facts(tmp_path / 'a.fits'), of_objects([hdus])[0]):
        assert (found.target, found.instrument, found.filters) == ('NGC104', 'ACS/WFC', 'F606W')
        place = SkyCoord(found.centre.lon, found.centre.lat, unit='deg')
        assert middle.separation(place).deg < 0.01  # a pixel; the chips are 230 apart


def test_position_of_the_target_where_the_image_has_none(tmp_path):
    hdus = hst()
    for hdu in hdus[1:]:
        del hdu.header['CTYPE1']
    hdus.writeto(tmp_path / 'a.fits')
    table, _ = open_results(tmp_path)
    assert (table['s_ra'][0], table['s_dec'][0]) == (1, 2)


@pytest.mark.parametrize('ctype', ['HPLN-TAN', 'solar-x'])
def test_the_sun_has_no_position(ctype, tmp_path):
    path = write(tmp_path / 'a.fits', {'CTYPE1': ctype, 'CTYPE2': 'HPLT-TAN', 'RA': 10., 'DEC': 5.})
    assert facts(path).centre is None


def test_target_pixel_file(tmp_path):
    table = fits.BinTableHDU(Table({'FLUX': np.zeros((3, 5, 5))}), name='PIXELS',
                             header=fits.Header({'OBJECT': 'TIC 1', 'RA_OBJ': 10., 'DEC_OBJ': 20.}))
    aperture = fits.ImageHDU(NUMBERS[:5, :5], fits.Header(SKY), name='APERTURE')
    fits.HDUList([fits.PrimaryHDU(), table, aperture]).writeto(tmp_path / 'a.fits')
    found = facts(tmp_path / 'a.fits')
    assert (found.target, found.centre.lon, found.centre.lat) == ('TIC 1', 10, 20)


@pytest.mark.parametrize('layout', ['primary', 'second', 'after a table', 'tiles', 'cube'])
@pytest.mark.parametrize('packed', [None, gzip.compress, bz2.compress])
def test_every_layout(layout, packed, tmp_path):
    header = fits.Header(SKY | WORDS)
    hdus = {
        'primary': [fits.PrimaryHDU(NUMBERS, header)],
        'second': [fits.PrimaryHDU(header=fits.Header(WORDS)), fits.ImageHDU(NUMBERS, header)],
        'after a table': [fits.PrimaryHDU(), fits.BinTableHDU(Table({'x': np.arange(9999)})),
                          fits.ImageHDU(NUMBERS, header, name='SCI')],
        'tiles': [fits.PrimaryHDU(), fits.CompImageHDU(NUMBERS, header)],
        'cube': [fits.PrimaryHDU(np.stack([NUMBERS] * 2), header)]}[layout]
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    data = stream.getvalue()
    path = tmp_path / 'a.fits'
    path.write_bytes(packed(data) if packed else data)
    for found in (facts(path), of_objects([path.read_bytes()])[0]):
        assert (found.target, found.filters) == ('M 42', 'r_SPECIAL')
        np.testing.assert_allclose([found.centre.lon, found.centre.lat], expected(PLAIN), atol=1e-9)


def test_no_more_than_a_megabyte_is_unpacked(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500)).astype('u1')
    hdus = fits.HDUList([fits.PrimaryHDU(noise), fits.ImageHDU(NUMBERS, fits.Header(SKY))])
    hdus[0].header['OBJECT'] = 'M 42'
    stream = io.BytesIO()
    hdus.writeto(stream)
    path = tmp_path / 'a.fits.gz'
    path.write_bytes(gzip.compress(stream.getvalue()))
    found = facts(path)
    assert (found.target, found.centre) == ('M 42', None)


def test_press_image(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(jpeg(TAGS.format(frame='ICRS').encode()))
    table, refs = open_results(tmp_path)
    assert (table['target_name'][0], table['obs_title'][0]) == ('M 16; Eagle Nebula',
                                                                'Bubbles & pillars')
    assert list(refs.metadata) == ['M 16; Eagle Nebula, Bubbles & pillars']
    assert table['s_ra'][0] == pytest.approx(274.6, abs=0.05)


# ---- objects -----------------------------------------------------------------------------


def test_objects(tmp_path):
    wcs = WCS(fits.Header(PLAIN))
    hdu = fits.PrimaryHDU(NUMBERS, fits.Header(SKY | WORDS))
    items = [hdu, fits.HDUList([hdu]), CCDData(NUMBERS, unit='adu', wcs=wcs, meta=WORDS),
             NDData(NUMBERS, wcs=wcs, meta=fits.Header(WORDS)),
             write(tmp_path / 'a.fits', SKY | WORDS), Cutout2D(NUMBERS, (150, 100), 50, wcs=wcs),
             NUMBERS, picture('red'), None, NDData(NUMBERS)]
    table, refs = open_results(items)
    assert table.colnames[:4] == ['index', 'kind', 'target_name', 's_ra']
    assert list(table['target_name'].filled('')) == ['M 42'] * 5 + [''] * 5
    np.testing.assert_allclose(table['s_ra'][:5], expected(PLAIN)[0], atol=1e-9)
    np.testing.assert_allclose(table['s_ra'][5], wcs.pixel_to_world(149.5, 99.5).ra.deg, atol=1e-9)
    assert list(table['s_ra'].mask) == [False] * 6 + [True] * 4
    assert list(refs.metadata) == ['M 42'] * 5 + [''] * 5


def test_arrays_alone_have_no_more_columns():
    assert open_results([NUMBERS, NUMBERS + 1])[0].colnames == ['index', 'kind']


class Broken:
    data = NUMBERS

    @property
    def header(self):
        raise RuntimeError('lost')


def test_objects_that_are_broken():
    hdu = fits.ImageHDU(NUMBERS, fits.Header(WORDS))
    hdu.header.append(fits.Card.fromstring('FILTER  = this is no value'))
    assert of_objects([Broken(), hdu])[0] == headers.Facts()


# ---- what is wrong -----------------------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.fits')
    (tmp_path / 'empty.fits').touch()
    (tmp_path / 'gone.fits').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'damaged.fits.gz').write_bytes(b'\x1f\x8b' + bytes(99))
    names = ['pipe.fits', 'empty.fits', 'gone.fits', 'damaged.fits.gz', '.', 'none']
    found = of_files([*(str(tmp_path / name) for name in names), 'memory://a/b.fits', None, '\0',
                      'relative.fits'])
    assert found == [headers.Facts()] * 10


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = write(tmp_path / 'a.fits', {'OBJECT': 'M 42'})
    assert facts(path).target == 'M 42'
    write(path, {'OBJECT': 'M 43'})
    os.utime(path, ns=(1, 1))
    assert facts(path).target == 'M 43'


@pytest.mark.parametrize('cards', [
    ['NAXIS   = 999', 'NAXIS1  = 99999999'], ['NAXIS   = 2', 'NAXIS1  = -5', 'NAXIS2  = 7'],
    ['BITPIX  = -64', 'NAXIS   = 1', 'NAXIS1  = 1E308'], ['PCOUNT  = 1E300', 'GCOUNT  = 1E300'],
    ['NAXIS   = NaN'], ["OBJECT  = 'open"], ["OBJECT  = 'a&'", "CONTINUE  'b&'"],
    ['A_ORDER = 9999999', 'B_ORDER = 9999999'], ['FILTER  = 1_0'], ['OBJECT'], ['=' * 80]])
def test_damaged_headers(cards, tmp_path):
    lines = ['SIMPLE  = T', 'BITPIX  = 8', *cards, 'INSTRUME= \'CAM1\'', 'END']
    raw = ''.join(f'{line:80}' for line in lines).encode()
    (tmp_path / 'a.fits').write_bytes(raw + b' ' * (-len(raw) % 2880))
    assert facts(tmp_path / 'a.fits').instrument == 'CAM1'


@given(data=st.data())
def test_a_damaged_header_never_raises(data):
    stream = io.BytesIO()
    hst()[:2].writeto(stream)
    raw = bytearray(stream.getvalue())
    cards = [i for i in range(0, len(raw), 80) if raw[i + 8:i + 10] == b'= ']
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from(cards)) + 10
        value = data.draw(st.sampled_from(
            [b'1e308', b'-1', b'0', b'99999999999', b'NaN', b"'x", b'T', b'1e-320', b'']) |
            st.binary(max_size=20))
        raw[place:place + 20] = value.ljust(20)[:20]
    found = of_objects([bytes(raw)])
    assert isinstance(found[0], headers.Facts)
    as_columns(found)


# ---- what the user sees ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'night'
    folder.mkdir()
    for number, name in enumerate(['red', 'green', '']):
        write(folder / f'{number}.fits', SKY | {'CRVAL1': 10.0 * number, 'OBJECT': name},
              np.random.default_rng(number).normal(size=(40, 40)).astype('f4'))
    return folder


def test_words_take_part(folder, search):
    best = search.rank(folder, 'green', by='metadata', show_progress=False)
    assert list(best['target_name'].filled('')) == ['green', 'red', '']
    assert list(best['clip_metadata'].mask) == [False, False, True]
    assert list(best['clip_status']) == ['OK', 'OK', 'SKIPPED']


def test_ranked_again(folder, search, tmp_path):
    best = search.rank(folder, 'green', show_progress=False)
    best.write(tmp_path / 'best.ecsv')
    for results in (best, tmp_path / 'best.ecsv'):
        again = search.rank(results, 'green', show_progress=False)
        assert again.colnames == best.colnames
        assert list(again['filename']) == list(best['filename'])
        assert list(again['clip_metadata'].filled(9)) == list(best['clip_metadata'].filled(9))


def test_cards_name_target_and_file(folder, search):
    best = search.rank(folder, 'green', show_progress=False)
    cards = {card.name: card for card in search.gallery(best).cards}
    assert set(cards) == {'red (0.fits)', 'green (1.fits)', '2.fits'}
    assert cards['2.fits'].ra == pytest.approx(20, abs=1)


def test_places_of_a_folder_are_drawn(folder, search):
    pytest.importorskip('matplotlib')
    best = search.rank(folder, 'green', show_progress=False)
    ax = search.plot_sky(best)
    assert ax.collections
    from matplotlib import pyplot

    pyplot.close(ax.figure)


@pytest.mark.skipif(not (SHARED_DATA / 'fits.tar.gz').exists(), reason='needs the shared files')
def test_real_files(tmp_path):
    with tarfile.open(SHARED_DATA / 'fits.tar.gz') as archive:
        archive.extractall(tmp_path, filter='data')
    table, _ = open_results(sorted((tmp_path / 'fits_real' / 'raw').rglob('*.fits')))
    table['filename'] = [Path(name).name for name in table['filename']]
    table.add_index('filename')
    for name, place, degrees in (
            ('HorseHead.fits', '05h40m59s -02d27m30s', 0.1),
            ('M6707HH.fits', '8h51m18s 11d48m', 0.1),
            ('gc_msx_e.fits', '17h45m40s -29d00m28s', 0.2),
            ('w5.fits', '2h54m 60d23m', 0.3),
            ('l1448_13co.fits', '03h25m30s 30d44m', 0.3), ('allsky_rosat.fits', '266.4d -28.9d', 1),
            ('TWHya.13CO_v0.fits', '11h01m51.9s -34d42m17s', 0.01)):
        row = table.loc[name]
        assert SkyCoord(place).separation(
            SkyCoord(row['s_ra'], row['s_dec'], unit='deg')).deg < degrees
    assert table.loc['M6707HH.fits']['target_name'] == 'M67'
    for name in ('irac_ch1_flight.fits', 'trace_1998-05-19T22:21:43.000_171_1024.fits'):
        assert table.loc[name]['s_ra'] is np.ma.masked


def test_a_text_that_goes_on_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, '_LONGEST', 200)
    cards = [f"{'TITLE' if not i else 'CONTINUE':8s}{'= ' if not i else '  '}'{'x' * 50}&'"
             .ljust(80) for i in range(30)]
    start = ['SIMPLE  =                    T', 'BITPIX  =                    8',
             'NAXIS   =                    0']
    raw = ''.join(card.ljust(80) for card in [*start, *cards, 'END'])
    (tmp_path / 'a.fits').write_bytes(raw.ljust(-(-len(raw) // 2880) * 2880).encode())
    fact, = of_files([str(tmp_path / 'a.fits')])
    assert fact.title[:200] == 'x' * 200
    assert len(fact.title) <= 251
