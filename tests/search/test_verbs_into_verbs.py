# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What one verb returns, every other verb takes, and finds the same pictures.

Each kind of result has three pictures of one colour; the model knows what it sees.
"""

import contextlib
import io
import sys
import warnings

import numpy as np
import pytest
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError
from PIL import Image
from pyvo.dal import TAPService

from astroclip_search import ClipSearch, conf
from astroclip_search.archives import table_io
from astroclip_search.archives.open import as_table
from astroclip_search.exceptions import ImageError, NothingRankedWarning, UnreadImagesWarning
from tests.colours import COLOURS, content, picture, serve_colours
from tests.loopback import point_astroquery_at
from tests.loopback.mast import Mast
from tests.loopback.vo import Dataset, Vo
from tests.search.test_rank import ReferenceEncoder

NAMES = list(COLOURS)

# ---- results of every kind ---------------------------------------------------------------


@contextlib.contextmanager
def a_table(folder):
    """Rows as those of MAST, with the names of files in a folder."""
    for colour in NAMES:
        (folder / f'{colour}.jpg').write_bytes(content(colour, 'JPEG'))
    colours = ['green', 'red', 'blue']
    yield Table({
        'obsid': ['1', '2', '3'], 'obs_collection': ['HST'] * 3, 'obs_title': ['A title'] * 3,
        'dataproduct_type': ['image'] * 3, 's_ra': [10.0] * 3, 's_dec': [20.0] * 3,
        'jpegURL': [f'{colour}.jpg' for colour in colours]}), colours, {'image_dir': folder}


@contextlib.contextmanager
def of_mast(folder):
    """Rows whose previews MAST has."""
    servers = []

    def serve(archive):
        servers.append(Mast(archive))
        servers.append(point_astroquery_at(servers[0].url))
        return servers[0]

    colours = ['green', 'red', 'blue']
    _, rows = serve_colours(serve, colours)
    with servers[0]:
        yield rows, colours, {}
    servers[1]()


@contextlib.contextmanager
def a_folder(folder):
    """A folder of images."""
    for colour in NAMES:
        (folder / f'{colour}.png').write_bytes(content(colour))
    yield folder, sorted(NAMES), {}


@contextlib.contextmanager
def arrays(folder):
    """Images in memory, of several kinds."""
    yield [np.array(picture('green')), picture('red'), content('blue')], [
        'green', 'red', 'blue'], {}


@contextlib.contextmanager
def of_pyvo(folder):
    """The answer of a service, whose images DataLink leads to."""
    colours = ['green', 'red', 'blue']
    datasets = [Dataset(colour, 'A title', files={'jpg': content(colour, 'JPEG')})
                for colour in colours]
    # As a service on the internet, which may be asked at any time.
    with Vo(datasets) as vo, conf.set_temp('private_hosts', [vo.url.removeprefix('http://')]):
        yield TAPService(f'{vo.url}/tap').search('SELECT * FROM ivoa.obscore'), colours, {}


KINDS = {'table': a_table, 'MAST': of_mast, 'folder': a_folder, 'arrays': arrays, 'pyvo': of_pyvo}


class Origin:
    """A result of one kind, and what each verb makes of it; each is made once."""

    def __init__(self, kind, results, colours, options, cache_dir):
        self.kind, self.results, self.colours, self.options = kind, results, colours, options
        self.search = another_search(cache_dir)
        self._made = {}

    def made(self, verb):
        if verb not in self._made:
            self._made[verb] = PRODUCERS[verb](self.search, self.results, self.colours,
                                               self.options)
        return self._made[verb]


def another_search(cache_dir):
    return ClipSearch(encoder=ReferenceEncoder(), cache_dir=cache_dir)


@pytest.fixture(scope='module', params=KINDS)
def origin(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    with KINDS[request.param](folder) as (results, colours, options):
        yield Origin(request.param, results, colours, options, tmp_path_factory.mktemp('cache'))


# ---- what the verbs return, and the colours of its rows ------------------------------------


def red_first(colours):
    return sorted(colours, key='red'.__ne__)


def by_rank(search, results, colours, options):
    return search.rank(results, 'red', **options), red_first(colours)


def by_filter(search, results, colours, options):
    return search.filter(results, 'red', **options), ['red']


def by_refine(search, results, colours, options):
    ranked = search.rank(results, 'green', **options)
    return search.refine(ranked, 'red'), red_first(sorted(colours, key='green'.__ne__))


def by_describe(search, results, colours, options):
    return (search.describe(results, NAMES, limit=2, **options),
            [colour for colour in colours for _ in range(2)])


def by_classify(search, results, colours, options):
    return search.classify(results, NAMES, **options), colours


def by_urls(search, results, colours, options):
    return search.get_image_urls(results, **options), colours


def by_images(search, results, colours, options):
    return search.get_images(results, **options), colours


PRODUCERS = {'rank': by_rank, 'filter': by_filter, 'refine': by_refine, 'describe': by_describe,
             'classify': by_classify, 'get_image_urls': by_urls, 'get_images': by_images}


# ---- what the verbs make of it -------------------------------------------------------------


def seen(search, results):
    """The colour that the model sees in the picture of each row."""
    return search.classify(results, NAMES)['clip_class'].tolist()


def shown(image):
    """The colour of a picture."""
    pixels = np.asarray(image.convert('RGB'))
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    assert middle.max() > 220
    assert np.sort(middle)[:2].max() < 20
    return NAMES[middle.argmax()]


def into_rank(search, results, colours, kind):
    # Of a description each picture is there twice.
    ranked = search.rank(results, colours[-1], fold_duplicates=False)
    n_right = colours.count(colours[-1])
    assert set(ranked['clip_status']) == {'OK'}
    assert seen(search, ranked)[:n_right] == [colours[-1]] * n_right
    assert sorted(seen(search, ranked)) == sorted(colours)
    assert ranked['clip_rank'].tolist() == list(range(1, len(colours) + 1))
    assert ranked.meta['clip']['query'] == [colours[-1]]
    if isinstance(results, Table):
        assert len(set(ranked.colnames)) == len(ranked.colnames)
        assert set(ranked.colnames) >= set(results.colnames)


def into_filter(search, results, colours, kind):
    kept = search.filter(results, colours[-1])
    assert seen(search, kept) == [colours[-1]] * colours.count(colours[-1])
    assert set(kept['clip_status']) == {'OK'}


def into_refine(search, results, colours, kind):
    if not isinstance(results, Table) or 'clip_rank' not in results.colnames:
        with pytest.raises(InvalidQueryError, match='refine takes a table that rank'):
            search.refine(results, 'red')
        return
    refined = search.refine(results, colours[-1], by='image')
    assert seen(search, refined)[0] == colours[-1]
    assert sorted(seen(search, refined)) == sorted(colours)
    assert set(refined['clip_status']) == {'OK'}
    liked = search.refine(results, 'red blue green', liked=results[-1:], weights={'text': 0})
    assert seen(search, liked)[0] == colours[-1]


def into_describe(search, results, colours, kind):
    lines = search.describe(results, NAMES, limit=1)
    assert lines['clip_phrase'].tolist() == colours
    assert lines['clip_row'].tolist() == list(range(len(colours)))
    assert set(lines['clip_status']) == {'OK'}


def into_classify(search, results, colours, kind):
    table = search.classify(results, NAMES)
    assert table['clip_class'].tolist() == colours
    assert set(table['clip_status']) == {'OK'}


def into_gallery(search, results, colours, kind):
    cards = search.gallery(results).cards
    if isinstance(results, Table) and 'clip_phrase' in results.colnames:
        colours = colours[::2]  # of a description each image is shown once
    assert [shown(Image.open(io.BytesIO(card.jpeg))) for card in cards] == colours
    assert not any(card.status for card in cards)


def into_plot_gallery(search, results, colours, kind):
    pytest.importorskip('matplotlib', minversion='3.9', reason='draws with matplotlib')
    from matplotlib import pyplot

    try:
        drawn = search.plot_gallery(results).child_axes
        assert [shown(Image.fromarray(np.asarray(ax.images[0].get_array())))
                for ax in drawn] == [shown(Image.open(io.BytesIO(card.jpeg)))
                                     for card in search.gallery(results).cards]
    finally:
        pyplot.close('all')


def into_images(search, results, colours, kind):
    images = search.get_images(results)
    if kind == 'arrays' and isinstance(results, Table):
        assert images == [None] * len(colours), 'a table does not hold what was in memory'
    else:
        assert [shown(image) for image in images] == colours


def into_urls(search, results, colours, kind):
    urls = search.get_image_urls(results)
    assert urls['clip_row'].tolist() == list(range(len(colours)))
    assert set(urls['clip_status']) == {''}
    if isinstance(results, Table):
        assert urls['clip_source'].tolist() == results['clip_source'].tolist()
    assert all(urls['clip_url'])


def into_encode_images(search, results, colours, kind):
    if kind == 'arrays' and isinstance(results, Table):
        with pytest.raises(ImageError, match='no longer in memory'):
            search.encode_images(results)
    else:
        cosines = search.encode_images(results) @ search.encode_text(NAMES).T
        assert [NAMES[i] for i in cosines.argmax(axis=1)] == colours


CONSUMERS = {'rank': into_rank, 'filter': into_filter, 'refine': into_refine,
             'describe': into_describe, 'classify': into_classify, 'gallery': into_gallery,
             'plot_gallery': into_plot_gallery, 'get_images': into_images,
             'get_image_urls': into_urls, 'encode_images': into_encode_images}


@pytest.mark.parametrize('into', CONSUMERS)
@pytest.mark.parametrize('verb', PRODUCERS)
def test_verb_into_verb(origin, verb, into):
    results, colours = origin.made(verb)
    if verb != 'get_images':
        assert set(results['clip_status']) <= {'OK', ''}
        before = results.pformat(max_width=-1)
    CONSUMERS[into](origin.search, results, colours, origin.kind)
    if verb != 'get_images':
        assert results.pformat(max_width=-1) == before, 'the input is not changed'


@pytest.mark.parametrize('into', CONSUMERS)
def test_a_row_and_a_list_of_rows(origin, into):
    """One row is a result too, and a list of rows or of tables is one table."""
    ranked, colours = origin.made('rank')
    for results, of_these in ((ranked[-1], colours[-1:]), ([ranked[1], ranked[2]], colours[1:]),
                              ([ranked[:1], ranked[2:]], colours[:1] + colours[2:])):
        if into == 'refine':
            continue  # it takes a table
        if into in ('get_images', 'encode_images', 'get_image_urls') and origin.kind == 'arrays':
            results = results.table[results.index:] if of_these == colours[-1:] else ranked[1:]
            of_these = colours[-len(results):]
        CONSUMERS[into](origin.search, results, of_these, origin.kind)


# ---- by way of a file, or of another library -----------------------------------------------


def written(table, path):
    table.write(path / 'ranked.ecsv')
    return path / 'ranked.ecsv'


def ours(suffix, how=lambda path: path):
    """A file that we have written, read by us, or otherwise."""
    def carry(table, folder):
        path = folder / f'table{suffix}'
        table_io.write(table, path)
        return how(path)
    return carry


def theirs(suffix, form, how=lambda path: path):
    """A file that astropy has written, which drops what it cannot hold."""
    def carry(table, folder):
        path = folder / f'table{suffix}'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            table.write(path, format=form)
        return how(path)
    return carry


def pandas():
    return pytest.importorskip('pandas', reason='carries tables with pandas')


def pyarrow():
    return pytest.importorskip('pyarrow', reason='carries tables with pyarrow')


def by_pandas_parquet(table, folder):
    pyarrow()
    frame = by_frame(table, folder)
    frame.to_parquet(folder / 'table.parquet')
    return folder / 'table.parquet'


def by_frame(table, folder):
    """A data frame; this way back has no room for columns of arrays."""
    pandas()
    return table[[name for name in table.colnames if table[name].ndim == 1]].to_pandas()


def by_arrow(table, folder):
    return pyarrow().Table.from_pandas(by_frame(table, folder))


def by_arrow_parquet(table, folder):
    from pyarrow import parquet

    parquet.write_table(by_arrow(table, folder), folder / 'table.parquet')
    return folder / 'table.parquet'


def by_our_parquet(how=lambda path: path):
    def carry(table, folder):
        pyarrow()
        return ours('.parquet', how)(table, folder)
    return carry


def by_pandas_csv(table, folder):
    return pandas().read_csv(ours('.csv')(table, folder))


def read_parquet(path):
    return pandas().read_parquet(path)


WAYS = {'ECSV': ours('.ecsv'), 'ECSV, Table.read': ours('.ecsv', Table.read),
        'FITS': ours('.fits'), 'FITS, Table.read': ours('.fits', Table.read),
        'VOTable': ours('.vot'), 'VOTable, Table.read': ours('.vot', Table.read),
        'CSV': ours('.csv'), 'CSV, pandas': by_pandas_csv,
        'Parquet': by_our_parquet(), 'Parquet, pandas': by_our_parquet(read_parquet),
        'Parquet, Table.read': by_our_parquet(Table.read),
        'Parquet of pandas': by_pandas_parquet, 'Parquet of pyarrow': by_arrow_parquet,
        'DataFrame': by_frame, 'pyarrow.Table': by_arrow,
        'ECSV of astropy': theirs('.ecsv', 'ascii.ecsv'),
        'FITS of astropy': theirs('.fits', 'fits'),
        'VOTable of astropy': theirs('.vot', 'votable', Table.read),
        'list': lambda table, folder: [table[:1], table[1:]],
        'rows': lambda table, folder: list(table),
        'dictionary': lambda table, folder: {'first': table[:1], 'others': table[1:]}}

# astropy's own ways lose meta['clip'], on which what a verb says of the phrase depends.
_NO_META = ('CSV', 'CSV, pandas', 'DataFrame', 'pyarrow.Table', 'Parquet of pandas',
            'Parquet of pyarrow', 'Parquet, pandas', 'FITS of astropy', 'VOTable of astropy',
            'VOTable, Table.read')


EVERY = ('rank', 'filter', 'refine', 'describe', 'classify', 'gallery', 'get_images',
         'get_image_urls', 'encode_images')
SOME = 'rank', 'refine', 'classify', 'gallery'


# A filtered and a refined table are ranked tables.
@pytest.mark.parametrize(('origin', 'verb'), [
    ('table', 'rank'), ('MAST', 'rank'), ('MAST', 'describe'), ('MAST', 'classify'),
    ('MAST', 'get_image_urls')], indirect=['origin'])
@pytest.mark.parametrize('way', WAYS)
def test_every_way_into_every_verb(origin, tmp_path, verb, way):
    table, colours = origin.made(verb)
    for into in EVERY if (origin.kind, verb) == ('MAST', 'rank') else SOME:
        folder = tmp_path / into
        folder.mkdir()
        carried = WAYS[way](table, folder)
        if into == 'refine':
            into_refine_from_anywhere(origin.search, carried, colours, verb)
        elif into == 'gallery' and verb == 'describe':
            cards = origin.search.gallery(carried).cards
            assert [shown(Image.open(io.BytesIO(card.jpeg))) for card in cards] == colours[::2]
        else:
            CONSUMERS[into](origin.search, carried, colours, origin.kind)


def into_refine_from_anywhere(search, carried, colours, verb):
    if verb in ('describe', 'classify', 'get_image_urls') or isinstance(carried, list | dict):
        return
    refined = search.refine(carried, colours[-1], by='image')
    assert seen(search, refined)[0] == colours[-1]
    assert set(refined['clip_status']) == {'OK'}


@pytest.mark.parametrize('origin', ['MAST'], indirect=True)
@pytest.mark.parametrize('way', WAYS)
def test_what_is_asked_is_kept_where_a_way_has_room_for_it(origin, tmp_path, way):
    if way in _NO_META or way in ('list', 'rows', 'dictionary'):
        return
    ranked, _ = origin.made('rank')
    carried = WAYS[way](ranked, tmp_path)
    again = origin.search.refine(carried)
    assert again.meta['clip']['query'] == ranked.meta['clip']['query'] == ['red']
    assert again['clip_source'].tolist() == ranked['clip_source'].tolist()


@pytest.mark.parametrize('way', WAYS)
def test_rows_without_a_value_pass_no_comparison(folder, tmp_path, way):
    """In memory, and after every file; of what other libraries make, after one of our verbs."""
    (folder / 'broken.png').write_bytes(b'broken')
    search = another_search(tmp_path / 'cache')
    for verb, asked in (('rank', 'red'), ('describe', NAMES), ('classify', NAMES)):
        with pytest.warns(UnreadImagesWarning):
            table = getattr(search, verb)(folder, asked)
        place = tmp_path / verb
        place.mkdir()
        carried = WAYS[way](table, place)
        found = carried if isinstance(carried, Table) and 'CSV' not in way else as_table(carried)
        for made in (table, found):
            n_bad = sum(status == 'ERROR' for status in made['clip_status'].tolist())
            assert n_bad == 1
            for column in ('clip_rank', 'clip_false_alarm', 'clip_score', 'clip_probability'):
                if column in made.colnames:
                    chosen = made[made[column] <= 1e6]
                    assert 'ERROR' not in chosen['clip_status'].tolist(), (way, column)
                    assert len(chosen) == len(made) - 1 or column == 'clip_false_alarm'


@pytest.mark.parametrize('read', [Table.read, lambda path: path], ids=['table', 'path'])
def test_a_file_in_the_same_session(origin, tmp_path, read):
    ranked, colours = origin.made('rank')
    into_rank(origin.search, read(written(ranked, tmp_path)), colours, origin.kind)


@pytest.mark.parametrize('verb', ['rank', 'describe', 'classify', 'get_image_urls'])
def test_a_file_in_a_new_session(origin, tmp_path, verb):
    """What is on a network is found again; files and arrays are those of the other session."""
    table, colours = origin.made(verb)
    search = another_search(tmp_path / 'cache')
    table = Table.read(written(table, tmp_path))
    if origin.kind in ('MAST', 'pyvo'):
        into_rank(search, table, colours, origin.kind)
        return
    with opened_files() as opened, pytest.warns(NothingRankedWarning, match='has not read'):
        ranked = search.rank(table, 'red')
    assert not [name for name in opened if name.endswith(('.jpg', '.png'))]
    assert set(ranked['clip_status']) == {'ERROR'}
    assert len(set(ranked['clip_message'])) == 1
    assert ranked['clip_message'][0].startswith('a file of an earlier ranking')
    assert search.get_images(table) == [None] * len(table)
    assert not any(card.jpeg for card in search.gallery(table).cards)


@pytest.mark.parametrize('origin', ['table', 'folder'], indirect=True)
def test_files_in_a_new_session_with_their_folder(origin, tmp_path):
    ranked, colours = origin.made('rank')
    folder = origin.options.get('image_dir', origin.results)
    again = another_search(tmp_path / 'cache').rank(Table.read(written(ranked, tmp_path)),
                                                    colours[-1], image_dir=folder)
    assert set(again['clip_status']) == {'OK'}
    assert seen(origin.search, again)[0] == colours[-1]


def test_another_session_with_the_same_cache(origin, tmp_path):
    ranked, colours = origin.made('rank')
    search = another_search(origin.search.cache_dir)
    into_rank(search, Table.read(written(ranked, tmp_path)), colours, origin.kind)
    assert search.session.encoder().n_images == 0


_opened = None


@contextlib.contextmanager
def opened_files():
    """The names of all files that this process opens."""
    global _opened  # noqa: PLW0603 - a hook cannot be taken away, only told to do nothing
    if _opened is None:
        def hook(event, args):
            if event == 'open' and _opened:
                _opened[-1].append(str(args[0]))

        _opened = []
        sys.addaudithook(hook)
    _opened.append([])
    try:
        yield _opened[-1]
    finally:
        _opened.pop()


def test_opened_files(folder):
    with opened_files() as opened:
        Image.open(folder / 'red.png').close()
    assert opened == [str(folder / 'red.png')]


# ---- rows that failed ----------------------------------------------------------------------


@pytest.mark.parametrize('verb', ['rank', 'describe', 'classify', 'filter'])
def test_what_failed_on_the_network_is_tried_again(serve, tmp_path, verb):
    search = another_search(tmp_path / 'cache')
    mast, rows = serve_colours(serve, ['red', 'green', 'blue'], faults={'p001': 'status:404'})
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(rows, 'red')
    assert ranked['clip_status'].tolist() == ['OK', 'OK', 'ERROR']
    mast.faults.clear()
    mast.clear()
    if verb == 'filter':
        assert seen(search, search.filter(ranked, 'green')) == ['green']
    elif verb == 'rank':
        assert seen(search, search.rank(ranked, 'green'))[0] == 'green'
    else:
        again = getattr(search, verb)(ranked, NAMES)
        assert set(again['clip_status']) == {'OK'}
    assert mast.downloads() == ['mast:HST/product/p001_green.jpg'], 'and nothing else'


@pytest.mark.parametrize('verb', ['rank', 'describe', 'classify'])
def test_what_failed_on_disk_is_tried_again_by_who_has_named_it(folder, tmp_path, verb):
    search = another_search(tmp_path / 'cache')
    (folder / 'red.png').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(folder, 'blue')
    phrases = 'green' if verb == 'rank' else NAMES
    with pytest.warns(UnreadImagesWarning):
        again = getattr(search, verb)(ranked, phrases)
    assert again['clip_status'].tolist().count('ERROR') == 1
    assert again['clip_message'][-1] == ranked['clip_message'][-1] != ''
    (folder / 'red.png').write_bytes(content('red'))
    again = getattr(search, verb)(ranked, phrases)
    assert set(again['clip_status']) == {'OK'}
    assert set(again['clip_message']) == {''}
    assert sorted(set(seen(search, again))) == sorted(NAMES)


@pytest.mark.parametrize('verb', ['rank', 'describe', 'classify'])
def test_what_failed_on_disk_keeps_what_was_said_for_others(folder, tmp_path, verb):
    (folder / 'red.png').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        ranked = another_search(tmp_path / 'cache').rank(folder, 'blue')
    (folder / 'red.png').write_bytes(content('red'))
    with pytest.warns(NothingRankedWarning), opened_files() as opened:
        again = getattr(another_search(tmp_path / 'other'), verb)(
            ranked, 'red' if verb == 'rank' else NAMES)
    assert again['clip_message'][-1] == ranked['clip_message'][-1] != ''
    assert [message.startswith('a file of an earlier ranking')
            for message in again['clip_message']] == [True, True, False]
    assert not [name for name in opened if name.endswith('.png')]
