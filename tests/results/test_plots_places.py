# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Places are drawn where they are, whichever way the rows of the image go.
"""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.visualization.wcsaxes import WCSAxes
from astroquery.exceptions import InvalidQueryError
from PIL import Image

from tests.places.made import places_of
from tests.places.test_regions import tangent
from tests.results.test_plots import HOSTILE, clean, png  # noqa: F401 - a fixture

BOXES = [(440.0, 80.0, 460.0, 100.0), (100.0, 300.0, 140.0, 340.0)]


@pytest.fixture
def frame(tmp_path):
    data = np.random.default_rng(1).normal(0, 1, (400, 600)).astype('f4')
    for x0, y0, x1, y1 in np.array(BOXES, int):
        data[y0:y1, x0:x1] += 50
    fits.writeto(tmp_path / 'field.fits', data, tangent().to_header())
    return tmp_path / 'field.fits'


def shown_at(ax, x, y):
    """How bright the figure is, as it is seen, at a pixel of the original."""
    hidden = [*ax.patches, *ax.texts, *ax.lines, *ax.images[1:]]
    for artist in hidden:
        artist.set_visible(False)
    ax.figure.canvas.draw()
    seen = np.asarray(ax.figure.canvas.buffer_rgba())
    for artist in hidden:
        artist.set_visible(True)
    column, row = ax.transData.transform((x, y)).astype(int)
    return int(seen[seen.shape[0] - 1 - row, column, :3].max())


def rectangles(ax):
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]


def test_places_of_a_fits_image_lie_on_them(search, frame):
    places = places_of(frame, BOXES, wcs=tangent(), name=HOSTILE)
    heat = np.zeros((10, 15))
    heat[7, 11] = 1
    ax = search.plot_places(places, heat=heat, image_dir=frame.parent)
    assert isinstance(ax, WCSAxes)
    assert ax.get_ylim() == (-0.5, 399.5)
    assert rectangles(ax) == [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in BOXES]
    for x0, y0, x1, y1 in BOXES:
        assert shown_at(ax, (x0 + x1) / 2, (y0 + y1) / 2) > 200
        assert shown_at(ax, (x0 + x1) / 2, 399 - (y0 + y1) / 2) < 200
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), [(450, 90), (120, 320)])
    assert [text.get_text() for text in ax.texts] == ['1', '2']
    assert HOSTILE.split()[-1] in ax.get_title()
    # Its warmest cell is over the first place: yellow, where the picture is grey.
    ax.figure.canvas.draw()
    seen = np.asarray(ax.figure.canvas.buffer_rgba()).astype(int)
    column, row = ax.transData.transform((470, 110)).astype(int)
    red, green, blue = seen[seen.shape[0] - 1 - row, column, :3]
    assert min(red, green) > blue + 40
    assert ax.coords[0].get_axislabel() == 'Right ascension'
    png(ax)


def test_places_of_a_bitmap_are_counted_from_the_top(search, tmp_path):
    pixels = np.zeros((300, 500, 3), 'u1')
    pixels[40:60, 400:420] = 255
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    ax = search.plot_places(places_of(tmp_path / 'a.png', [(400, 40, 420, 60)]),
                            image_dir=tmp_path)
    assert not isinstance(ax, WCSAxes)
    assert ax.get_ylim() == (299.5, -0.5)
    assert shown_at(ax, 410, 50) > 200
    assert shown_at(ax, 410, 250) < 50
    png(ax)


def test_the_picture_of_the_first_row(search, frame):
    from matplotlib import pyplot

    places = vstack([places_of(frame, BOXES, wcs=tangent(), row=4),
                     places_of(frame.parent / 'gone.fits', BOXES, row=5), places_of('', [], row=6)])
    _, ax = pyplot.subplots()
    assert search.plot_places(places, ax=ax, image_dir=frame.parent) is ax
    assert len(ax.patches) == 2
    with pytest.raises(InvalidQueryError, match='cannot be drawn'):
        search.plot_places(places[places['clip_row'] == 5], image_dir=frame.parent)
    with pytest.raises(InvalidQueryError, match='has no place'):
        search.plot_places(places[places['clip_row'] == 6], image_dir=frame.parent)
    with pytest.raises(InvalidQueryError, match='has no place'):
        search.plot_places(places[:0])
    for heat in (np.zeros(3), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidQueryError, match='heat'):
            search.plot_places(places, heat=heat, image_dir=frame.parent)
    with pytest.raises(InvalidQueryError, match='ax must be'):
        search.plot_places(places, ax=3, image_dir=frame.parent)
    with pytest.raises(InvalidQueryError, match='locate'):
        search.plot_places(Table({'a': [1]}))
