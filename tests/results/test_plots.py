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
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from astroquery.exceptions import InvalidQueryError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.calibration import false_alarm_rate
from astroclip_search.results.plots import draw_scores, threshold
from astroclip_search.search import show
from tests.colours import ColourEncoder, content, picture, shaded

matplotlib = pytest.importorskip('matplotlib', minversion='3.9', reason='draws with matplotlib')

OPTIONS = {'plot_gallery': {'n': 3}, 'plot_scores': {'false_alarm_rate': 0.05}, 'plot_sky': {}}
VERBS = list(OPTIONS)
HOSTILE = r'$\frac{1}$ 100% of M_51 & $x'


@pytest.fixture(autouse=True)
def clean():
    """Nothing of matplotlib is changed for good, and no figure is left."""
    from matplotlib import pyplot

    pyplot.close('all')  # what examples in docstrings have drawn
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
    encoder.bundle.__dict__['_background'] = Background(colours, colours)
    return ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')


@pytest.fixture
def table(tmp_path):
    """Forty pictures in a field around 0h; five are red, the last is broken."""
    rng = np.random.default_rng(1)
    for i in range(39):
        image = picture('red')
        if i >= 5:
            image = Image.fromarray(shaded(rng.integers(80, 255, 3)))
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
        f'rows above it: {n} (by chance: 2)', 'each of these' if n > 1 else 'this one',
        'threshold: false-alarm rate 0.05']
    assert ax.get_title() == 'red + blue'
    assert 'standard deviations' in ax.get_xlabel()
    assert ax.get_ylabel()


def test_words_do_not_move_the_pictures(search, rank):
    of_both, of_image = (search.plot_scores(rank(by=by), false_alarm_rate=0.05)
                         for by in ('both', 'image'))
    assert bars(of_both)[:2] == bars(of_image)[:2]


@pytest.mark.parametrize('kind', ['phrase', 'negative', 'like', 'unlike', 'weights', 'refined'])
def test_background_of_the_very_query(search, rank, tmp_path, monkeypatch, kind):
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
    drawn = []

    def draw(cosines, background, *args, **options):
        drawn.append(background)
        return draw_scores(cosines, background, *args, **options)

    monkeypatch.setattr(show, 'draw_scores', draw)
    png(search.plot_scores(again, false_alarm_rate=0.05))
    unrelated, = drawn
    np.testing.assert_array_equal(false_alarm_rate(best['clip_image'].filled(np.nan), unrelated),
                                  best['clip_false_alarm'].filled(np.nan))


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
    np.testing.assert_array_equal(cosines > limit, false_alarm_rate(cosines, background) <= rate)


def test_a_single_row_of_thousands_is_seen(search):
    rows = np.append(np.full(5000, -0.3), 0.99)
    background = search.session.encoder().bundle.background.image[:, 0] - 0.6
    ax = draw_scores(rows, background, 0.01)
    assert ax.lines[0].get_marker() == '^'
    assert len(ax.lines[0].get_xdata()) == 1


def test_scores_that_are_all_the_same(search, rank):
    best = rank()
    png(search.plot_scores(best[:1], false_alarm_rate=0.05))


def test_too_few_reference_images_for_the_rate(search, rank):
    with pytest.raises(InvalidQueryError, match=r'500 reference images .* at least that'):
        search.plot_scores(rank(), false_alarm_rate=1e-4)



@pytest.mark.parametrize('name', ['like', 'unlike'])
@pytest.mark.parametrize('said', [5, [5], [['x']], True, 'x', {'a': 1}])
def test_examples_that_are_none(search, rank, name, said):
    best = rank()
    best.meta['clip'][name] = said
    with pytest.raises(InvalidQueryError, match=f'no valid {name}'):
        search.plot_scores(best, false_alarm_rate=0.05)


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
        search.plot_scores(rank(by='metadata'))


def test_example_that_is_not_kept_any_more(search, rank):
    best = rank()
    liked = rank(None, like=best[3])
    search.clear_cache()
    with pytest.raises(InvalidQueryError, match='not kept any more'):
        search.plot_scores(liked)


# ---- gallery -----------------------------------------------------------------------------

def test_pictures_of_a_table(search, rank):
    best = rank()
    ax = search.plot_gallery(best, n=5, columns=3)
    assert [child.get_label() for child in ax.child_axes] == list(best['target_name'][:5])
    first = ax.child_axes[0]
    rate = float(best['clip_false_alarm'][0])
    said = [f'1. {best["target_name"][0]}', f'score {best["clip_score"][0]:.2f}',
            f'false alarm 1 in {float(f"{1 / rate:.2g}"):,.0f}']
    assert texts(first) == ['\n'.join(said)]
    shown = np.asarray(first.images[0].get_array())
    assert shown.shape == (16, 16, 3)
    assert not [*first.get_xticks(), *first.get_yticks()]
    assert shown[8, 8, 0] > 220
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
    assert ' '.join(texts(broken)[0].split()).startswith('ERROR: neither a FITS file')
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
