# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What matplotlib is given to draw: the right data, in the right place, and in words that stay words.
"""

import io
import itertools
import sys
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.exceptions import AstropyWarning
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from astroclip_search import ClipSearch
from astroclip_search.bundle import Background
from astroclip_search.charts import draw_scores, threshold
from astroclip_search.ranking import exceedance, normalise
from tests.colours import ColourEncoder, content, picture

matplotlib = pytest.importorskip('matplotlib', minversion='3.9', reason='draws with matplotlib')

OPTIONS = {'plot_gallery': {'n': 3}, 'plot_scores': {'false_alarm_rate': 0.05}, 'plot_sky': {}}
VERBS = list(OPTIONS)
HOSTILE = r'$\frac{1}$ 100% of M_51 & $x'


@pytest.fixture(autouse=True)
def clean():
    """Nothing of matplotlib is changed for good, and no figure is left."""
    from matplotlib import pyplot

    pyplot.switch_backend('agg')
    before = dict(matplotlib.rcParams)
    yield
    pyplot.close('all')
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend() == 'agg'


@pytest.fixture
def search(tmp_path):
    """Its reference images are five hundred colours."""
    encoder = ColourEncoder()
    colours = normalise(np.random.default_rng(0).uniform(0.2, 1, (500, 3)))
    encoder.bundle.__dict__['background'] = Background(colours, colours)
    return ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')


@pytest.fixture
def table(tmp_path):
    """Forty pictures in a field around 0h; five are red, the last is broken."""
    rng = np.random.default_rng(1)
    for i in range(39):
        image = picture('red')
        if i >= 5:
            image.paste(tuple(rng.integers(80, 255, 3).tolist()), (0, 0, 16, 16))
        image.save(tmp_path / f'{i}.png')
    (tmp_path / '39.png').write_bytes(b'broken')
    return Table({'image': [f'{i}.png' for i in range(40)],
                  'target_name': [f'T{i}' for i in range(40)],
                  's_ra': (rng.normal(0, 0.1, 40)) % 360, 's_dec': rng.normal(60, 0.1, 40)})


@pytest.fixture
def rank(search, table, tmp_path):
    def rank(text='red', **options):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', AstropyWarning)  # of the broken one, of no finds
            return search.rank(table, text, image_dir=tmp_path, **{'by': 'image', **options})
    return rank


def png(ax):
    """Draw for good, which finds what setting up does not."""
    stream = io.BytesIO()
    ax.figure.savefig(stream, format='png')
    assert stream.getvalue().startswith(b'\x89PNG')


def texts(ax):
    return [text.get_text() for text in ax.texts]


# ---- scores ------------------------------------------------------------------------------

def bars(ax):
    """Heights of the rows below and above the threshold, and left edges."""
    below, above = ax.containers
    return ([bar.get_height() for bar in below], [bar.get_height() for bar in above],
            np.array([bar.get_x() for bar in above]))


def test_scores_of_a_table(search, rank):
    best = rank()
    ax = search.plot_scores(best, false_alarm_rate=0.05)
    found = best['clip_false_alarm'].filled(2) <= 0.05
    assert 5 <= found.sum() < 20
    below, above, left = bars(ax)
    assert (sum(below), sum(above)) == (39 - found.sum(), found.sum())
    line = ax.lines[-1].get_xdata()[0]
    assert (left[np.array(above) > 0] > line).all()
    np.testing.assert_allclose(np.sort(ax.lines[0].get_xdata()),
                               np.sort(best['clip_score'][found]), rtol=1e-5)
    assert (best['clip_score'][found] > line).all()
    assert (best['clip_score'].compressed() > line).sum() == found.sum()
    png(ax)


def test_background_is_scaled_to_the_rows(search, rank):
    ax = search.plot_scores(rank(), false_alarm_rate=0.05)
    outline = ax.patches[0].get_path().vertices
    edges = np.unique(outline[:, 0])
    heights = [outline[outline[:, 0] == x, 1].max() for x in edges]
    assert max(heights) < 39
    areas = abs(np.trapezoid(outline[:, 1], outline[:, 0]))
    assert areas / np.diff(edges).mean() == pytest.approx(39, rel=1e-6)


def test_scores_say_what_they_are(search, rank):
    best = rank(['red', 'blue'])
    ax = search.plot_scores(best, false_alarm_rate=0.05)
    n = int((best['clip_false_alarm'].filled(2) <= 0.05).sum())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        'unrelated images: 500, scaled to 39', f'rows below the threshold: {39 - n}',
        f'rows above it: {n} (by chance: 2)', 'threshold: false-alarm rate 0.05']
    assert ax.get_title() == 'red + blue'
    assert 'standard deviations' in ax.get_xlabel()
    assert ax.get_ylabel()


def test_words_do_not_move_the_pictures(search, rank):
    of_both, of_image = (search.plot_scores(rank(by=by), false_alarm_rate=0.05)
                         for by in ('both', 'image'))
    assert bars(of_both)[:2] == bars(of_image)[:2]


@pytest.mark.parametrize('kind', ['phrase', 'negative', 'like', 'unlike', 'weights', 'refined'])
def test_background_of_the_very_query(search, rank, tmp_path, kind):
    best = rank()
    options = {'phrase': {'text': ['red', 'green']}, 'negative': {'negative': 'green'},
               'like': {'text': None, 'like': best[7]}, 'unlike': {'unlike': [best[7], best[9]]},
               'weights': {'like': best[7], 'weights': {'like': 2.0, 'text': 0.25}}}
    if kind == 'refined':
        best = search.refine(best, 'blue', liked=[3, 4], disliked=[8])
    else:
        best = rank(**options[kind])
    best.write(tmp_path / 'best.ecsv')
    again = Table.read(tmp_path / 'best.ecsv')
    unrelated = search._unrelated(again.meta['clip'])
    np.testing.assert_array_equal(exceedance(best['clip_image'].filled(np.nan), unrelated),
                                  best['clip_false_alarm'].filled(np.nan))
    png(search.plot_scores(again, false_alarm_rate=0.05))


@settings(deadline=None)
@given(background=npst.arrays(float, st.integers(5, 60), elements=st.one_of(
           st.floats(-1, 1), st.sampled_from([0.0, 0.5, np.nan]))),
       cosines=npst.arrays(float, 20, elements=st.one_of(
           st.floats(-1, 1), st.sampled_from([0.0, 0.5]))),
       rate=st.floats(0.01, 0.99))
def test_threshold_agrees_with_the_rate(background, cosines, rate):
    known = background[~np.isnan(background)]
    if 1 / (len(known) + 1) > rate * (1 - 1e-6):
        return
    limit = threshold(background, rate)
    np.testing.assert_array_equal(cosines > limit, exceedance(cosines, background) <= rate)


def test_a_single_row_of_thousands_is_seen(search):
    rows = np.append(np.full(5000, -0.3), 0.99)
    background = search._encoder().bundle.background.image[:, 0] - 0.6
    ax = draw_scores(rows, background, 0.01)
    assert ax.lines[0].get_marker() == '^'
    assert len(ax.lines[0].get_xdata()) == 1


def test_scores_that_are_all_the_same(search, rank):
    best = rank()
    png(search.plot_scores(best[:1], false_alarm_rate=0.05))


def test_too_few_reference_images_for_the_rate(search, rank):
    with pytest.raises(InvalidQueryError, match=r'500 reference images .* at least that'):
        search.plot_scores(rank(), false_alarm_rate=1e-4)


@pytest.mark.parametrize('rate', [0, 1, -0.1, 5])
def test_no_rate(search, rank, rate):
    with pytest.raises(InvalidQueryError, match='between 0 and 1'):
        search.plot_scores(rank(), false_alarm_rate=rate)


def test_ranked_by_another_model(search, rank, tmp_path):
    best = rank()
    other = ClipSearch(encoder=ColourEncoder('other'), cache_dir=tmp_path / 'other')
    with pytest.raises(InvalidQueryError, match='rank again, or plot with ClipSearch'):
        other.plot_scores(best)


def test_model_without_reference_images(rank, tmp_path):
    bare = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'other')
    with pytest.raises(InvalidQueryError, match="'colours' has no reference images"):
        bare.plot_scores(rank())


@pytest.mark.parametrize('clip', [None, 'red', {}, {'model': 'colours'}])
def test_nothing_known_of_the_query(search, rank, clip):
    best = rank()
    best.meta['clip'] = clip
    with pytest.raises(InvalidQueryError, match="meta\\['clip'\\] is lost"):
        search.plot_scores(best)


def test_words_alone_have_no_background_of_pictures(search, rank):
    with pytest.raises(InvalidQueryError, match='No row has a clip_image'):
        search.plot_scores(rank(by='text'))


def test_example_that_is_not_kept_any_more(search, rank):
    best = rank()
    liked = rank(None, like=best[3])
    search.clear_cache()
    with pytest.raises(InvalidQueryError, match='not kept any more'):
        search.plot_scores(liked)


# ---- sky ---------------------------------------------------------------------------------

def drawn(ax):
    """Positions and scores of the points that have a score."""
    points = ax.collections[-1]
    return np.asarray(points.get_offsets()), np.asarray(points.get_array())


def pixels(ax, ra, dec):
    return ax.wcs.wcs_world2pix(np.column_stack([ra, dec]), 0)


def test_small_field_has_a_tangent_plane(search, rank):
    best = rank()
    ax = search.plot_sky(best)
    assert list(ax.wcs.wcs.ctype) == ['RA---TAN', 'DEC--TAN']
    positions, scores = drawn(ax)
    ordered = best[:39][::-1]  # the best is drawn last, on top of the others
    np.testing.assert_array_equal(positions, np.column_stack([ordered['s_ra'], ordered['s_dec']]))
    np.testing.assert_array_equal(scores, ordered['clip_score'])
    x, y = pixels(ax, best['s_ra'], best['s_dec']).T
    assert ax.get_xlim()[0] < x.min() < x.max() < ax.get_xlim()[1]
    assert ax.get_ylim()[0] < y.min() < y.max() < ax.get_ylim()[1]
    assert [axis.get_axislabel() for axis in ax.coords] == ['RA (ICRS, deg)', 'Dec (ICRS, deg)']
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == ['Score']
    assert ax.get_title() == 'red'
    png(ax)


def test_right_ascension_increases_to_the_left(search, rank):
    ax = search.plot_sky(rank())
    (east, _), (west, _) = pixels(ax, [0.1, 359.9], [60, 60])
    assert ax.get_xlim()[0] < east < west < ax.get_xlim()[1]


def test_points_are_where_they_should_be_on_the_paper(search, rank):
    ax = search.plot_sky(rank())
    png(ax)
    points = ax.collections[-1]
    shown = points.get_offset_transform().transform(points.get_offsets())
    expected = ax.transData.transform(pixels(ax, *points.get_offsets().T))
    np.testing.assert_allclose(shown, expected, atol=0.01)


@pytest.mark.parametrize(('ra', 'dec', 'projection'), [
    ([10, 190], [0, 0], 'AIT'), ([10, 10], [-90, 90], 'AIT'), ([0, 50], [0, 0], 'AIT'),
    ([0, 180], [89, 89], 'TAN'), ([10, 10], [20, 20], 'TAN'), ([350, 10], [0, 0], 'TAN'),
    ([0, 120, 240], [0, 0, 0], 'AIT'), ([123.4], [-89.9], 'TAN')])
def test_projection(search, rank, ra, dec, projection):
    best = rank()[:len(ra)]
    best['s_ra'], best['s_dec'] = np.array(ra, float), np.array(dec, float)
    ax = search.plot_sky(best)
    assert ax.wcs.wcs.ctype[0] == f'RA---{projection}'
    shown = pixels(ax, best['s_ra'], best['s_dec'])
    for values, (low, high) in zip(shown.T, (ax.get_xlim(), ax.get_ylim()), strict=True):
        assert ((low <= values) & (values <= high)).all()
    png(ax)


def test_all_sky_is_an_ellipse(search, rank):
    from astropy.visualization.wcsaxes.frame import EllipticalFrame

    best = rank()
    best['s_ra'], best['s_dec'] = np.linspace(0, 359, 40), np.linspace(-89, 89, 40)
    ax = search.plot_sky(best)
    assert ax.frame_class is EllipticalFrame
    # Its ends are where the projection ends, neither cut off nor beyond.
    ends = pixels(ax, [179.999, 180.001, 0, 0], [0, 0, -90, 90])
    np.testing.assert_allclose(ends[:2, 0], ax.get_xlim(), atol=0.5)
    np.testing.assert_allclose(ends[2:, 1], ax.get_ylim(), atol=0.5)
    assert 'RA (ICRS, deg)' in texts(ax)
    colours, = (other for other in ax.figure.axes if other is not ax)
    assert colours.get_xlabel() == 'Score'
    png(ax)


def test_best_rows_have_their_rank(search, rank):
    best = rank()
    best['s_ra'], best['s_dec'] = np.linspace(10, 11, 40), np.linspace(0, 1, 40)
    assert texts(search.plot_sky(best)) == ['1', '3', '5']  # 2 and 4 are too near to be read
    best['s_ra'] = 10.0
    best['s_dec'][0] = 0.5
    best['s_dec'][1:] = 0.0
    assert texts(search.plot_sky(best)) == ['1', '2']
    assert texts(search.plot_sky(best[3:][::-1])) == ['4']


def test_rows_without_score_or_position(search, rank):
    best = rank()
    best['s_ra'] = MaskedColumn(best['s_ra'], mask=np.arange(40) < 3)
    best['s_dec'][3] = np.nan
    best['s_dec'][4] = -95
    ax = search.plot_sky(best)
    empty, points = ax.collections
    assert (len(empty.get_offsets()), len(points.get_offsets())) == (1, 34)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ['rows without a score: 1']
    assert texts(ax)[0] == '6'
    assert search.plot_sky(best[:39]).get_legend() is None
    png(ax)


def test_positions_of_any_kind(search, rank):
    best = rank()
    expected, _ = drawn(search.plot_sky(best))
    positions = SkyCoord(best['s_ra'], best['s_dec'], unit='deg')
    plain = best['clip_rank', 'clip_score']
    quantities = QTable(plain)
    quantities['s_ra'], quantities['s_dec'] = positions.ra.rad * u.rad, positions.dec.to(u.arcmin)
    coordinates = plain.copy()
    coordinates['where'] = positions.galactic
    ucds = plain.copy()
    ucds['a'], ucds['b'] = best['s_ra'], best['s_dec']
    for name, axis in (('a', 'ra'), ('b', 'dec')):
        ucds[name].meta['ucd'] = f'pos.eq.{axis};meta.main'
    for other in (quantities, coordinates, ucds):
        np.testing.assert_allclose(drawn(search.plot_sky(other))[0], expected, atol=1e-9)
    hidden = plain.copy()
    mask = np.arange(40) % 2 == 1
    hidden['where'] = SkyCoord(Masked(positions.ra, mask), Masked(positions.dec, mask))
    np.testing.assert_allclose(drawn(search.plot_sky(hidden))[0], expected[::2], atol=1e-9)


@pytest.mark.parametrize('columns', [
    {}, {'s_ra': np.full(40, np.nan), 's_dec': np.zeros(40)}, {'s_ra': np.zeros(40)},
    {'s_ra': MaskedColumn(np.zeros(40), mask=True), 's_dec': np.zeros(40)},
    {'s_ra': ['x'] * 40, 's_dec': ['y'] * 40}])
def test_no_positions(search, rank, columns):
    best = rank()['clip_rank', 'clip_score']
    for name, values in columns.items():
        best[name] = values
    with pytest.raises(InvalidQueryError, match='No row has a position'):
        search.plot_sky(best)


def test_sky_of_the_user(search, rank):
    from matplotlib import pyplot

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ('GLON-CAR', 'GLAT-CAR'), (-1, 1)
    wcs.wcs.crval = 117, 0
    ax = pyplot.subplot(projection=wcs)
    ax.set(xlim=(-3, 4), ylim=(-5, 2))
    assert search.plot_sky(rank(), ax=ax) is ax
    assert len(pyplot.get_fignums()) == 1
    assert (ax.get_xlim(), ax.get_ylim()) == ((-3, 4), (-5, 2))
    place = SkyCoord(0, 60, unit='deg').galactic
    shown = ax.collections[-1].get_offset_transform().transform([[0, 60]])
    expected = ax.transData.transform(pixels(ax, [place.l.deg], [place.b.deg]))
    np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_axes_without_a_sky(search, rank):
    from matplotlib import pyplot

    for projection in (None, 'aitoff', WCS(naxis=2)):
        ax = pyplot.figure().add_subplot(projection=projection)
        with pytest.raises(InvalidQueryError, match=r'WCSAxes|celestial'):
            search.plot_sky(rank(), ax=ax)


# ---- gallery -----------------------------------------------------------------------------

def test_pictures_of_a_table(search, rank):
    best = rank()
    ax = search.plot_gallery(best, n=5, columns=3)
    assert [child.get_label() for child in ax.child_axes] == list(best['target_name'][:5])
    first = ax.child_axes[0]
    rate = float(best['clip_false_alarm'][0])
    said = [f'1. {best["target_name"][0]}', f'score {best["clip_score"][0]:.2f}',
            f'false alarm {rate:.1%}']
    assert texts(first) == ['\n'.join(said)]
    shown = np.asarray(first.images[0].get_array())
    assert shown.shape == (16, 16, 3)
    assert shown[8, 8, 0] > 240
    assert shown[8, 8, 1:].max() < 15
    assert ax.get_title() == 'red'
    png(ax)


def places_of(ax):
    return [child.get_position() for child in ax.child_axes]


def test_grid(search, rank):
    ax = search.plot_gallery(rank(), n=5, columns=3)
    png(ax)
    boxes = [child.get_window_extent() for child in ax.child_axes]
    assert [round(box.y0) == round(boxes[0].y0) for box in boxes] == [True] * 3 + [False] * 2
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert boxes[3].y1 < boxes[0].y0
    assert len(search.plot_gallery(rank(), n=2).child_axes) == 2  # not more columns than pictures


def test_nothing_is_written_over_anything_else(search, rank):
    best = rank(negative='green', like=rank()[3])
    best['target_name'] = ['A target with a very long name of which the end is not shown'] * 40
    for columns in (2, 8):
        ax = search.plot_gallery(best[-8:], columns=columns)
        png(ax)
        boxes = [text.get_window_extent() for child in ax.child_axes for text in child.texts]
        boxes += [ax.title.get_window_extent()]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
        page = ax.figure.bbox
        for box in boxes:
            assert page.x0 <= box.x0 < box.x1 <= page.x1
            assert page.y0 <= box.y0 < box.y1 <= page.y1


def test_reason_why_there_is_no_picture(search, rank):
    ax = search.plot_gallery(rank()[-2:])
    shown, broken = ax.child_axes
    assert len(shown.images) == 1
    assert not broken.images
    assert ' '.join(texts(broken)[0].split()).startswith('ERROR: neither a JPEG')
    assert texts(broken)[1] == 'T39'
    png(ax)


def test_gallery_of_what_is_not_ranked(search, tmp_path):
    (tmp_path / 'blue.png').write_bytes(content('blue'))
    ax = search.plot_gallery(tmp_path / 'blue.png')
    only, = ax.child_axes
    assert texts(only) == ['blue.png']
    assert ax.get_title() == ''


@pytest.mark.parametrize(('n', 'length'), [(0, 40), (24, 0), (None, 400), (241, 400)])
def test_number_of_pictures(search, rank, n, length):
    rows = rank()[np.arange(length) % 40]
    with pytest.raises(InvalidQueryError, match='draws 1 to 240 rows'):
        search.plot_gallery(rows, n=n)


@pytest.mark.parametrize('columns', [0, -1, 2.5])
def test_number_of_columns(search, rank, columns):
    with pytest.raises(InvalidQueryError, match='columns must be a whole number'):
        search.plot_gallery(rank(), columns=columns)


# ---- all of them -------------------------------------------------------------------------

@pytest.mark.parametrize('verb', VERBS[:2])
def test_axes_of_the_user(search, rank, verb):
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2)
    assert getattr(search, verb)(rank(), ax=right, **OPTIONS[verb]) is right
    assert pyplot.get_fignums() == [figure.number]
    assert not left.has_data()
    assert left.get_title() == ''
    png(right)
    with pytest.raises(InvalidQueryError, match='ax must be Axes of matplotlib'):
        getattr(search, verb)(rank(), ax=figure, **OPTIONS[verb])


@pytest.mark.parametrize('verb', VERBS)
def test_each_call_makes_a_figure(search, rank, verb):
    from matplotlib import pyplot

    first, second = (getattr(search, verb)(rank(), **OPTIONS[verb]) for _ in range(2))
    assert first.figure is not second.figure
    assert len(pyplot.get_fignums()) == 2


@pytest.mark.parametrize('verb', VERBS)
def test_failing_makes_no_figure(search, verb):
    from matplotlib import pyplot

    with pytest.raises(InvalidQueryError):
        getattr(search, verb)(Table({'clip_rank': [1], 'clip_score': [np.nan],
                                     'clip_image': [np.nan]})[:0])
    assert not pyplot.get_fignums()


@pytest.mark.parametrize('verb', VERBS[1:])
@pytest.mark.parametrize('other', [None, 'best.ecsv', Table({'s_ra': [1.0], 's_dec': [2.0]})])
def test_table_that_is_not_ranked(search, verb, other):
    with pytest.raises(InvalidQueryError, match=f'{verb} takes a table that rank'):
        getattr(search, verb)(other)


@pytest.mark.parametrize('verb', VERBS)
def test_words_of_others_are_no_formula(search, rank, verb):
    best = rank()
    best['target_name'] = [HOSTILE] * 40
    best['clip_message'] = [HOSTILE] * 40
    best.meta['clip']['query'] = [HOSTILE]
    with matplotlib.rc_context({'text.usetex': True}):
        ax = getattr(search, verb)(best, **OPTIONS[verb])
    written = [ax.title, *(text for child in ax.child_axes for text in child.texts)]
    assert ax.get_title().startswith(HOSTILE)
    for text in written:
        assert not text.get_usetex()
        assert not text.get_parse_math()
    png(getattr(search, verb)(best, **OPTIONS[verb]))


@pytest.mark.parametrize('verb', VERBS)
def test_long_queries_are_cut(search, rank, verb):
    best = rank()
    best.meta['clip']['query'] = ['red ' * 200, 'a\nb']
    ax = getattr(search, verb)(best, **OPTIONS[verb])
    png(ax)
    page, title = ax.figure.bbox, ax.title.get_window_extent()
    assert page.x0 < title.x0 < title.x1 < page.x1


@pytest.mark.parametrize('verb', VERBS)
def test_without_matplotlib(search, rank, verb, monkeypatch):
    best = rank()
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(ImportError, match=r'pip install "astroclip-search\[plot\]"$'):
        getattr(search, verb)(best)


def test_style_of_the_user(search, rank):
    from matplotlib import pyplot

    with pyplot.style.context('dark_background'):
        ax = search.plot_scores(rank(), false_alarm_rate=0.05)
    assert matplotlib.colors.to_rgb(ax.lines[-1].get_color()) == (1, 1, 1)
