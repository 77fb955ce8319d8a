# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Target pixel files and HEALPix maps: which frame, which way up, and which value where.
"""

import gzip
import io
import tracemalloc

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astroclip_search.archives import table_io
from astroclip_search.exceptions import ImageError
from astroclip_search.images import pixel_tables
from astroclip_search.images.pixel_tables import is_picture
from astroclip_search.images.render import plane, render


def content(hdus):
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


# ---- target pixel files ------------------------------------------------------------------


def frames(n=7, nx=9, ny=6):
    """A star in column 7 of row 1, brighter from frame to frame."""
    y, x = np.mgrid[:ny, :nx]
    star = 100 * np.exp(-((x - 7)**2 + (y - 1)**2) / 3)
    return np.stack([star * (i + 1) + i for i in range(n)]).astype('f4')


def target_pixels(flux, form='E', **options):
    """As those of Kepler and TESS, with more columns before and after."""
    n, ny, nx = flux.shape
    table = fits.BinTableHDU.from_columns([
        fits.Column('TIME', 'D', array=np.arange(n, dtype=float)),
        fits.Column('QUALITY_BITS', '11X', array=np.zeros((n, 11), bool)),
        fits.Column('RAW_CNTS', f'{nx * ny}J', null=-1, dim=f'({nx},{ny})',
                    array=np.full(flux.shape, -1)),
        fits.Column('FLUX', f'{nx * ny}{form}', dim=f'({nx},{ny})', array=flux, **options),
        fits.Column('FLUX_ERR', f'{nx * ny}E', dim=f'({nx},{ny})', array=np.ones_like(flux)),
        fits.Column('FFI_FILE', '38A', array=['a'] * n)], name='PIXELS')
    aperture = fits.ImageHDU(np.ones((ny, nx), 'i4'), name='APERTURE')
    return fits.HDUList([fits.PrimaryHDU(), table, aperture])


def kinds(hdus):
    """The same as a file, compressed, in memory, and read into memory by the user."""
    data = content(hdus)
    with fits.open(io.BytesIO(data)) as read:
        yield from (data, gzip.compress(data), hdus, read)


@pytest.mark.parametrize(('chosen', 'expected'), [
    ('middle', frames()[3]), (0, frames()[0]), (6, frames()[6]), ('peak', frames()[6]),
    ('sum', frames().sum(axis=0))])
def test_frames(chosen, expected):
    for source in kinds(target_pixels(frames())):
        found = plane(source, plane=chosen)
        np.testing.assert_allclose(found.data, expected, rtol=1e-6)
        assert (found.step, found.data.dtype) == (1, np.float32)
        picture = np.asarray(render(source, plane=chosen))[..., 0]
        assert np.unravel_index(picture.argmax(), picture.shape) == (6 - 1 - 1, 7)


@pytest.mark.parametrize('blank', [np.nan, 0])
@pytest.mark.parametrize('good', [0, 2, 4, 6])
def test_bad_times_are_left_out(blank, good):
    flux = frames()
    flux[np.arange(7) != good] = blank
    flux[3, 0, 0] = 5  # a hot pixel does not make a frame
    flux[3, 1:] = np.nan
    for source in kinds(target_pixels(flux)):
        np.testing.assert_array_equal(plane(source).data, flux[good])


def test_the_good_frame_nearest_to_the_middle(monkeypatch):
    flux = frames(n=101)
    flux[np.isin(np.arange(101), [3, 44, 58, 99], invert=True)] = np.nan
    for band in (1 << 22, 2000):  # by many frames at once, and by few
        monkeypatch.setattr(pixel_tables, '_BAND', band)
        np.testing.assert_array_equal(plane(content(target_pixels(flux))).data, flux[44])


def test_the_sum_and_the_peak_leave_out_what_is_none():
    flux = frames()
    flux[2], flux[:, 0, 0], flux[5, 3, 3] = np.nan, np.nan, np.inf
    expected = np.where(np.isfinite(flux), flux, np.nan)
    for source in kinds(target_pixels(flux)):
        total, peak = (plane(source, plane=chosen).data for chosen in ('sum', 'peak'))
        assert np.isnan(total[0, 0])
        assert np.isnan(peak[0, 0])
        total[0, 0] = peak[0, 0] = 0
        np.testing.assert_allclose(total, np.nansum(expected, axis=0), rtol=1e-5)
        np.testing.assert_allclose(peak, np.nanmax(np.nan_to_num(expected), axis=0), rtol=1e-6)


def test_frames_of_scaled_integers():
    flux = np.arange(3 * 5 * 6).reshape(3, 5, 6) + .5
    flux[1, 4, 5] = np.nan
    hdus = target_pixels(np.nan_to_num((flux - 10) / .5, nan=-16384).astype('i2'), form='I')
    hdus[1].header.update({'TSCAL4': .5, 'TZERO4': 10., 'TNULL4': -16384})
    for source in kinds(hdus):
        if source is not hdus:  # of which the numbers are in memory already
            np.testing.assert_array_equal(plane(source).data, flux[1])


@pytest.mark.parametrize('chosen', [7, 99, -1])
def test_frames_that_are_not_there(chosen):
    with pytest.raises(ImageError) as caught:
        render(content(target_pixels(frames())), plane=chosen)
    assert caught.value.because.code == 'no_such_plane'


def test_frames_without_a_pixel():
    with pytest.raises(ImageError, match='no finite pixels'):
        render(content(target_pixels(np.full((4, 5, 6), np.nan, 'f4'))))
    with pytest.raises(ImageError, match='no pixels'):
        render(content(target_pixels(np.empty((0, 5, 6), 'f4'))))


@pytest.mark.parametrize('left', [500, 3000, 6000, 9000])
def test_a_file_that_was_cut(left):
    data = content(target_pixels(frames(n=40)))
    assert len(data) > 12000
    with pytest.raises(ImageError):
        render(data[:left])


def test_of_many_frames_few_are_read(tmp_path):
    target_pixels(frames(n=20_000)).writeto(tmp_path / 'a.fits')
    assert (tmp_path / 'a.fits').stat().st_size > 12_000_000
    render(tmp_path / 'a.fits')  # imports
    tracemalloc.start()
    try:
        render(tmp_path / 'a.fits')
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# ---- what is a table ---------------------------------------------------------------------


def catalogue(**columns):
    return fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([
        fits.Column(name, form, array=array, **options)
        for name, (form, array, options) in columns.items()])])


def test_catalogues_are_no_pictures(tmp_path):
    numbers = np.arange(3.)
    for i, hdus in enumerate([
            catalogue(RA=('D', numbers, {}), FLUX=('E', numbers, {})),
            catalogue(TIME=('D', numbers, {}), FLUX=('5E', np.ones((3, 5)), {})),
            catalogue(ID=('J', numbers, {}), FLUX=('20E', np.ones((3, 4, 5)), {'dim': '(5,4)'}))]):
        assert not is_picture(hdus[1].header)
        hdus.writeto(tmp_path / f'{i}.fits')
        assert table_io.holds_table(tmp_path / f'{i}.fits')
        with pytest.raises(ImageError, match='no image in the FITS file'):
            render(tmp_path / f'{i}.fits')


def test_pictures_are_no_catalogues(tmp_path):
    for i, hdus in enumerate([target_pixels(frames())[:2], fits.HDUList([fits.PrimaryHDU(), sky()]),
                              target_pixels(frames())]):
        assert is_picture(hdus[1].header)
        hdus.writeto(tmp_path / f'{i}.fits')
        assert not table_io.holds_table(tmp_path / f'{i}.fits')


# ---- maps of the sky ---------------------------------------------------------------------

# By healpy 1.20.1.
RING_OF_NESTED = [
    13, 5, 4, 0, 15, 7, 6, 1, 17, 9, 8, 2, 19, 11, 10, 3, 28, 20, 27, 12, 30, 22, 21, 14, 32, 24,
    23, 16, 34, 26, 25, 18, 44, 37, 36, 29, 45, 39, 38, 31, 46, 41, 40, 33, 47, 43, 42, 35]

# At these positions (lon, lat) lie these cells of NSIDE 64 in ring and in nested order.
CELLS = [(289.8, -10.5, 29006, 29843), (290.9, -65.4, 47014, 45719),
         (19.4, 17.7, 17038, 19792), (138., -32.1, 37602, 40032)]


def centres(nside):
    """Longitude and latitude of the cells in ring order, in degrees, one by one."""
    found = []
    for ring in range(1, 4 * nside):
        cap = min(ring, 4 * nside - ring)
        n = 4 * min(cap, nside)
        z = 1 - cap**2 / (3 * nside**2) if cap < nside else (2 * nside - ring) * 2 / (3 * nside)
        z = -z if cap < nside and ring > nside else z
        shift = .5 if cap < nside or (ring - nside) % 2 == 0 else 0
        found += [(360 * (j + shift) / n, np.degrees(np.arcsin(z))) for j in range(n)]
    return np.array(found).T


def pattern(lon, lat):
    """What changes slowly from place to place, and is nowhere else the same."""
    return np.cos(np.radians(lat)) * np.cos(np.radians(lon - 40)) + np.sin(np.radians(lat)) / 2


def sky(*values, nside=64, order='RING', system='G', repeat=1, form='E', cells=None, **cards):
    """A map whose first component has these values, and more components behind it."""
    if not values:
        values = (np.arange(12. * nside**2),)
    columns = [] if cells is None else [fits.Column('PIXEL', 'J', array=cells)]
    columns += [fits.Column(name, f'{repeat}{form}', array=np.reshape(data, (-1, repeat)).squeeze())
                for name, data in zip(('I_STOKES', 'Q', 'U'), values, strict=False)]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update({'PIXTYPE': 'HEALPIX', 'ORDERING': order, 'NSIDE': nside,
                         'COORDSYS': system, **cards,
                         'INDXSCHM': 'IMPLICIT' if cells is None else 'EXPLICIT'})
    return table


def drawn(table, **options):
    return plane(content(fits.HDUList([fits.PrimaryHDU(), table])), **options)


def at(found, lon, lat):
    x, y = found.wcs().all_world2pix(lon, lat, 0)
    return found.data[round(float(y)), round(float(x))]


@pytest.mark.parametrize(('order', 'which'), [('RING', 2), ('NESTED', 3), ('NEST', 3)])
@pytest.mark.parametrize('repeat', [1, 1024])
def test_cells_are_where_healpy_has_them(order, which, repeat):
    found = drawn(sky(order=order, repeat=repeat), side=512)
    assert found.data.shape == (512, 1024)
    for cell in CELLS:
        assert at(found, *cell[:2]) == cell[which]


def test_all_cells_of_both_orders():
    numbers = np.arange(48.)
    ring = drawn(sky(numbers, nside=2), side=64).data
    nested = drawn(sky(numbers[RING_OF_NESTED], nside=2, order='NESTED'), side=64).data
    np.testing.assert_array_equal(ring, nested)
    assert set(ring[np.isfinite(ring)]) == set(range(48))
    # Their areas are equal.
    assert np.bincount(ring[np.isfinite(ring)].astype(int)).std() < 6


@pytest.mark.parametrize('nside', [1, 16, 64, 200, 256])
def test_what_is_drawn_is_what_is_there(nside):
    values = pattern(*centres(nside))
    found = drawn(sky(values, nside=nside), side=128)
    y, x = np.indices(found.data.shape)
    lon, lat = found.wcs().all_pix2world(x, y, 0)
    # Outside of the ellipse there is no sky.
    inside = np.isfinite(found.data)
    assert (inside == np.isfinite(lon)).mean() > .999
    inside &= np.isfinite(lon)
    tolerance = .02 + 1.2 / nside
    np.testing.assert_allclose(found.data[inside], pattern(lon, lat)[inside], atol=tolerance)
    assert abs(found.data[inside].mean() - values.mean()) < 2e-3


def test_north_is_up_and_longitude_grows_to_the_left():
    lon, lat = centres(32)
    data = drawn(sky(lon, nside=32), side=100).data
    # It is 0 in the middle.
    assert np.abs(data[50, [1, 50, 98, 102, 150, 198]] - [178, 90, 3, 357, 270, 182]).max() < 3
    data = drawn(sky(lat, nside=32), side=100).data
    assert data[95, 100] > 60 > -60 > data[5, 100]
    assert np.isnan(data[[0, 0, -1, -1], [0, -1, 0, -1]]).all()


@pytest.mark.parametrize(('system', 'ctype'), [
    ('G', ['GLON-MOL', 'GLAT-MOL']), ('GALACTIC', ['GLON-MOL', 'GLAT-MOL']),
    ('C', ['RA---MOL', 'DEC--MOL']), ('E', ['ELON-MOL', 'ELAT-MOL'])])
def test_coordinates(system, ctype):
    assert list(drawn(sky(system=system)).wcs().wcs.ctype) == ctype


def test_coordinates_that_are_not_said():
    assert drawn(sky(system='')).wcs() is None


@pytest.mark.parametrize('order', ['RING', 'NESTED'])
@pytest.mark.parametrize('nside', [64, 256])
def test_means_of_fine_maps(order, nside):
    noise = np.random.default_rng(0).normal(7, 1, 12 * nside**2)
    data = drawn(sky(noise, nside=nside, order=order), side=32).data
    assert abs(np.nanmean(data) - 7) < .02
    # 16 cells make one that is drawn, and 256.
    n = (nside // 16)**2
    assert abs(np.nanstd(data) - 1 / np.sqrt(n if order == 'NESTED' else min(n, 16))) < .02


@pytest.mark.parametrize('order', ['RING', 'NESTED'])
@pytest.mark.parametrize('unseen', [-1.6375e30, np.nan, -1e20])
def test_cells_without_a_value(order, unseen):
    nside = 64
    values = np.full(12 * nside**2, unseen)
    values[1::2] = 5  # a mean is that of the others
    values[:6 * nside**2] = unseen
    data = drawn(sky(values, nside=nside, order=order, BAD_DATA=-1e20), side=32).data
    assert set(data[np.isfinite(data)]) == {5}
    assert .3 < np.isfinite(data).sum() / (np.pi / 4 * data.size) < .7


@pytest.mark.parametrize('order', ['RING', 'NESTED'])
def test_maps_of_a_part_of_the_sky(order):
    numbers = np.arange(12. * 64**2)
    cells = np.random.default_rng(0).permutation(len(numbers))[:9000]
    part = drawn(sky(numbers[cells], cells=cells, order=order), side=256).data
    whole = np.full(len(numbers), np.nan)
    whole[cells] = numbers[cells]
    np.testing.assert_array_equal(part, drawn(sky(whole, order=order), side=256).data)
    assert np.isfinite(part).any()


def test_components():
    values = np.stack([np.arange(12. * 64**2) * factor for factor in (1, 10, 100)])
    table = sky(*values)
    for chosen, factor in {'middle': 1, 'peak': 1, 'sum': 1, 0: 1, 1: 10, 2: 100}.items():
        assert at(drawn(table, plane=chosen, side=512), 19.4, 17.7) == 17038 * factor
    with pytest.raises(ImageError) as caught:
        drawn(table, plane=3)
    assert caught.value.because.code == 'no_such_plane'
    table.columns[0].name, table.columns[2].name = 'WEIGHT', 'TEMPERATURE'
    assert at(drawn(table, side=512), 19.4, 17.7) == 17038 * 100


@pytest.mark.parametrize('form', ['E', 'D', 'J', 'K'])
def test_numbers_of_any_type(form):
    assert at(drawn(sky(form=form), side=512), 19.4, 17.7) == 17038


def test_a_map_in_memory():
    hdus = fits.HDUList([fits.PrimaryHDU(), sky()])
    np.testing.assert_array_equal(plane(hdus).data, plane(content(hdus)).data)
    assert render(hdus) == render(content(hdus))


def test_a_map_with_cells_of_many_sizes():
    # One cell of order 0, the four of order 1 in another, and fine ones in a third.
    uniq = [4, *(4 * 4 + 4 + i for i in range(4)), *(4 * 4**8 + 2 * 4**8 + np.arange(4**8))]
    values = [3., *(10. + i for i in range(4)), *np.tile([1., 2, 3, 6], 4**7)]
    table = fits.BinTableHDU.from_columns([fits.Column('UNIQ', 'K', array=uniq),
                                           fits.Column('PROBDENSITY', 'D', array=values)])
    table.header.update({'PIXTYPE': 'HEALPIX', 'ORDERING': 'NUNIQ', 'INDXSCHM': 'EXPLICIT',
                         'COORDSYS': 'C'})
    data = drawn(table, side=64).data
    assert sorted(set(data[np.isfinite(data)])) == [3, 10, 11, 12, 13]
    # Faces of the north: 45, 135 and 225 degrees from the origin.
    found = drawn(table, side=64)
    assert at(found, 45, 45) == 3
    assert {at(found, 135, lat) for lat in (12, 75)} == {10, 13}


@pytest.mark.parametrize('cards', [{'NSIDE': 32}, {'NSIDE': 63}, {'NSIDE': 2**40}])
def test_maps_that_do_not_fit_their_header(cards):
    table = sky()
    table.header.update(cards)
    with pytest.raises(ImageError) as caught:
        drawn(table)
    assert caught.value.because.code == 'damaged_fits'


def test_where_something_is_is_no_picture():
    table = fits.BinTableHDU.from_columns([fits.Column('UNIQ', 'K', array=[4, 5])])
    table.header.update({'PIXTYPE': 'HEALPIX', 'ORDERING': 'NUNIQ', 'COORDSYS': 'C'})
    with pytest.raises(ImageError) as caught:
        drawn(table)
    assert caught.value.because.code == 'no_fits_image'


@pytest.mark.parametrize('order', ['RING', 'NESTED'])
def test_a_large_map_takes_little_memory(order, tmp_path):
    nside = 1024  # 100 MB
    header = sky(np.zeros(48), np.zeros(48), nside=2, order=order).header
    header.update({'NSIDE': nside, 'NAXIS1': 2 * 4096, 'NAXIS2': 12 * nside**2 // 1024,
                   'TFORM1': '1024E', 'TFORM2': '1024E'})
    with (tmp_path / 'a.fits').open('wb') as file:
        file.write(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
        row = np.ones((1, 2, 1024), '>f4').repeat(256, axis=0).tobytes()
        for _ in range(header['NAXIS2'] // 256):
            file.write(row)
        file.write(bytes(-file.tell() % 2880))
    render(np.eye(8))  # imports
    tracemalloc.start()
    try:
        data = plane(tmp_path / 'a.fits', side=128).data
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    assert set(data[np.isfinite(data)]) == {1}


def test_cells_as_other_libraries_have_them():
    healpix = pytest.importorskip('astropy_healpix')
    rng = np.random.default_rng(0)
    lon, z = rng.uniform(0, 2 * np.pi, 20_000), rng.uniform(-1, 1, 20_000)
    for nside in (1, 8, 1024):
        np.testing.assert_array_equal(
            pixel_tables._nested_cells(nside, z, lon),
            healpix.lonlat_to_healpix(lon * u.rad, np.arcsin(z) * u.rad, nside, order='nested'))
        cells = rng.integers(0, 12 * nside**2, 20_000)
        theirs = healpix.healpix_to_lonlat(cells, nside, order='ring')
        ours = pixel_tables._centres(nside, cells)
        np.testing.assert_allclose(np.sin(theirs[1].value), ours[0], atol=1e-12)
        np.testing.assert_allclose(theirs[0].value, ours[1] % (2 * np.pi), atol=1e-12)
