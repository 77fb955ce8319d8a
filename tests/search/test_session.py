# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the verbs share from call to call: it can be pickled, closed, forked and set anew.
"""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError

import astroclip_search
from astroclip_search import ClipSearch, ClipSearchClass, conf
from astroclip_search.exceptions import (
    ClipSearchWarning,
    ImageError,
    IncompleteQueryWarning,
    LongPhraseWarning,
    LostEmbeddingsWarning,
    NothingRankedWarning,
    NothingStandsOutWarning,
    UncalibratedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
    warn,
)
from astroclip_search.images.refs import ImageRefs, colour
from astroclip_search.search.session import Session
from tests import tiny
from tests.colours import ColourEncoder, content, picture, serve_colours
from tests.loopback.vo import Dataset, Vo, votable
from tests.search.test_rank import ReferenceEncoder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path):
    """A real model of a few kilobytes, which has no reference images."""
    return str(tiny.write_bundle(tmp_path / 'tiny', background=False))


@pytest.fixture
def real(bundle, tmp_path):
    return ClipSearch(model=bundle, cache_dir=tmp_path / 'cache')


def names(ranked):
    return [Path(name).stem for name in ranked['filename']]


# ---- copies ------------------------------------------------------------------------------


def copies(search):
    return [pickle.loads(pickle.dumps(search)), copy.copy(search), copy.deepcopy(search)]


@pytest.mark.parametrize('given', [False, True])
@pytest.mark.parametrize('when', ['before it is used', 'after it was used', 'after it was closed'])
def test_it_can_be_pickled_at_any_time(real, search, folder, given, when):
    one = search if given else real
    if when != 'before it is used':
        one.rank(folder, 'red', by='image')
        one.gallery(folder)
    if when == 'after it was closed':
        one.close()
    for other in copies(one):
        assert type(other) is type(one)
        assert repr(other) == repr(one)
        assert (other.cache_dir, other.device) == (one.cache_dir, one.device)
        np.testing.assert_array_equal(other.encode_text(['red', 'blue']),
                                      one.encode_text(['red', 'blue']))
        np.testing.assert_array_equal(other.encode_images(folder), one.encode_images(folder))
        ranked = other.rank(folder, 'blue', by='image')
        assert names(ranked)[0] == 'blue'
        np.testing.assert_array_equal(
            ranked['clip_score'], one.rank(folder, 'blue', by='image')['clip_score'])
        other.close()


def test_a_copy_has_settings_and_neither_caches_nor_a_login(folder, tmp_path):
    search = ClipSearch(model='a/b', revision='c', device='cpu', cache_dir=tmp_path, mast=object())
    search.session.cache(False)
    other = pickle.loads(pickle.dumps(search)).session
    assert (other.model, other.revision, other.device, other.cache_dir) == (
        'a/b', 'c', 'cpu', tmp_path)
    assert other.mast is None
    assert other.caches() == []


def test_the_instance_of_the_package_can_be_pickled():
    other = pickle.loads(pickle.dumps(ClipSearch))
    assert repr(other) == repr(ClipSearch)
    np.testing.assert_array_equal(other.encode_text('red'), ClipSearch.encode_text('red'))


def test_another_process_uses_a_copy(real, folder):
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        there = pool.apply(real.rank, (folder, 'blue'), {'by': 'image'})
    here = real.rank(folder, 'blue', by='image')
    np.testing.assert_array_equal(there['clip_score'], here['clip_score'])
    assert names(there) == names(here)
    assert there.meta['clip'] | {'date': ''} == here.meta['clip'] | {'date': ''}


# ---- the end of it -----------------------------------------------------------------------


def test_use_after_close(search, encoder, folder):
    first = search.rank(folder, 'red')
    before = search.session.cache()
    search.close()
    search.close()
    assert search.session.cache() is not before
    again = search.rank(folder, 'red')
    assert again['clip_score'].tolist() == first['clip_score'].tolist()
    assert encoder.n_images == 3, 'what is on disk is still there'


def test_context_manager(search, folder):
    with search as entered:
        assert entered is search
        search.rank(folder, 'red')
        before = search.session.cache()
    assert search.session.cache() is not before
    with pytest.raises(ZeroDivisionError), ClipSearch(encoder=ColourEncoder()):
        raise ZeroDivisionError


def test_a_session_is_a_context_manager_too(tmp_path):
    with Session(encoder=ColourEncoder(), cache_dir=tmp_path) as session:
        before = session.cache()
    assert session.cache() is not before


def test_closing_forgets_what_was_kept_in_memory(search, folder):
    ranked = search.rank(folder, 'red', cache=False)
    search.close()
    with pytest.warns(LostEmbeddingsWarning, match='embeddings of 3 of 3'):
        search.refine(ranked, 'blue')


def test_to_look_makes_no_file(search, tmp_path):
    assert search.cache_info() == {'path': str(tmp_path / 'cache' / 'embeddings-3.sqlite'),
                                   'bytes': 0, 'max_bytes': 4 * 1024**3, 'vectors': 0,
                                   'thumbnails': 0, 'links': 0, 'failures': 0,
                                   'unused_bytes': 0}
    assert search.session.caches() == []
    assert search.clear_cache() == 0
    search.close()
    assert not (tmp_path / 'cache').exists()


# ---- fork --------------------------------------------------------------------------------

FORK = """
import json, os, signal, sys, threading, warnings
from pathlib import Path
from astroclip_search import ClipSearch
from tests.colours import ColourEncoder, content

warnings.simplefilter('ignore')
folder, cache, model, busy = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == 'busy'
search = ClipSearch(cache_dir=cache, model=model or None,
                    encoder=None if model else ColourEncoder())

def files(name, n=40):
    (folder / name).mkdir(exist_ok=True)
    for i in range(n):
        (folder / name / f'{i}.png').write_bytes(
            content(('red', 'green', 'blue')[i % 3]) + name.encode())
    return folder / name

def ranked(name, text):
    best = search.rank(folder / name, text, by='image')
    assert set(best['clip_status']) == {'OK'}, best['clip_message'].tolist()
    return [[Path(name).name, float(score)]
            for name, score in best['filename', 'clip_score'].iterrows()]

for name in ('before', 'both', 'child', 'parent', *(f'busy{i}' for i in range(50 * busy))):
    files(name)
ranked('before', 'red')
done = threading.Event()

def rank_on():
    for i in range(50):
        if not done.is_set():
            ranked(f'busy{i}', 'red')

threads = [threading.Thread(target=rank_on) for _ in range(busy)]
for thread in threads:
    thread.start()
children = []
for i in range(3 if busy else 1):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # if it hangs
        found = [ranked('before', 'blue'), ranked('both', 'blue')]
        ranked('child', 'red')
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    children.append((child, reader))
found = [ranked('before', 'blue'), ranked('both', 'blue')]
ranked('parent', 'red')
for child, reader in children:
    with os.fdopen(reader) as stream:
        theirs = stream.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert json.loads(theirs) == found
done.set()
for thread in threads:
    thread.join()
before = search.cache_info()['thumbnails']
for name in ('child', 'parent', 'both'):
    ranked(name, 'green')
assert search.cache_info()['thumbnails'] == before >= 160, 'both have written'
search.close()
print('well')
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
@pytest.mark.parametrize('busy', ['idle', 'busy'])
@pytest.mark.parametrize('kind', ['given', 'real'])
def test_parent_and_child_go_on_after_a_fork(tmp_path, kind, busy):
    """Also where another thread of the parent ranks at this moment."""
    import sqlite3

    model = str(tiny.write_bundle(tmp_path / 'tiny')) if kind == 'real' else ''
    done = subprocess.run(
        [sys.executable, '-c', FORK, tmp_path, tmp_path / 'cache', model, busy], cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout, done.returncode) == ('well\n', 0), done.stderr
    files = [path.name for path in (tmp_path / 'cache').iterdir()]
    assert files == ['embeddings-3.sqlite'], 'the cache was not moved aside'
    database = sqlite3.connect(tmp_path / 'cache' / 'embeddings-3.sqlite')
    assert database.execute('PRAGMA integrity_check').fetchone() == ('ok',)
    database.close()


FORK_WHILE_A_MODEL_OPENS = """
import os, signal, sys, threading
from astroclip_search import ClipSearch
from astroclip_search.models import bundle
from astroclip_search.search import session

search = ClipSearch(model=sys.argv[1])
held, done, opened = threading.Event(), threading.Event(), bundle.open_bundle

def slow(*args):
    held.set()
    done.wait()
    return opened(*args)

def replace(function):
    bundle.open_bundle = session.open_bundle = function

replace(slow)
thread = threading.Thread(target=search.session.encoder)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)  # if it hangs
    replace(opened)
    os._exit(0 if search.encode_text('red').shape == (1, 3) else 1)
_, status = os.waitpid(child, 0)
done.set()
thread.join()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_fork_while_a_model_is_verified(bundle):
    subprocess.run([sys.executable, '-c', FORK_WHILE_A_MODEL_OPENS, bundle], check=True,
                   timeout=100)


# ---- whom it trusts, and what it reads -----------------------------------------------------


@pytest.fixture
def vo():
    """A server on a private network, as the loopback interface is."""
    with Vo([Dataset(name, files={'jpg': content(name, 'JPEG')})
             for name in ('red', 'green', 'blue')]) as centre:
        yield centre


def test_trust_in_a_host_ends_with_the_call(search, folder, vo):
    red, green, blue = (vo.file(item, 'jpg') for item in vo.datasets)
    assert search.rank([red], 'red')['clip_status'].tolist() == ['OK']
    assert search.get_images([green])[0] is not None, 'who names an address trusts its host'
    search.rank(folder, like=blue)
    assert search.encode_images([green]).shape == (1, 3)
    vo.log.clear()

    table = Table({'preview': [green]})
    with pytest.warns(NothingRankedWarning, match=r'is a private address: .*conf.private_hosts'):
        ranked = search.rank(table, 'green')
    assert ranked['clip_status'].tolist() == ['ERROR']
    assert search.get_images(table) == [None]
    assert search.gallery(table).cards[0].jpeg is None
    assert vo.log == []
    with conf.set_temp('private_hosts', [vo.url.removeprefix('http://')]):
        assert search.rank(table, 'green')['clip_status'].tolist() == ['OK']
        assert search.get_images(table)[0] is not None


def test_a_service_that_was_asked_is_not_trusted_in_the_next_call(search, vo):
    best = search.query_tap('red', 'SELECT * FROM ivoa.obscore', service=f'{vo.url}/tap')
    assert set(best['clip_status']) == {'OK'}
    vo.log.clear()
    assert search.get_images(best) == [None] * 3
    assert vo.log == []
    assert all(card.jpeg for card in search.gallery(best).cards), 'thumbnails are in the cache'


def test_is_ours(folder, tmp_path):
    def another(cache_dir):
        return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / cache_dir)

    red, green = str(folder / 'red.png'), str(folder / 'green.png')
    search = another('cache')
    assert not search.session.is_ours(red)
    search.rank(red, 'red')
    assert search.session.is_ours(red)
    assert not search.session.is_ours(green)
    assert another('cache').session.is_ours(red), 'it was named with this cache'
    assert not another('other').session.is_ours(red)
    (folder / 'red.png').write_bytes(content('blue') + b'edited')
    for name in ('cache', 'other'):
        assert another(name).session.is_ours(red) == (name == 'cache'), 'edited or not'
    (folder / 'red.png').unlink()
    assert another('cache').session.is_ours(red), 'nothing is asked of the disk'


@pytest.mark.parametrize('verb', [
    lambda search, images: search.rank(images, 'red', cache=False),
    lambda search, images: search.classify(images, ['red', 'blue'], cache=False),
    lambda search, images: search.get_images(images),
    lambda search, images: search.gallery(images),
    lambda search, images: search.get_image_urls(images)])
def test_who_names_an_image_may_have_it_read(search, folder, verb):
    search.session.encoder()
    verb(search, folder)
    assert search.session.is_ours(str(folder / 'red.png'))
    assert not search.session.is_ours(str(folder / 'none.png'))
    verb(search, [picture('red')])
    source = search.get_image_urls([picture('red')])['clip_source'][0]
    assert source.startswith('sha256:')
    assert search.session.is_ours(source)


def test_who_names_a_composite_names_its_parts(search):
    source = colour('/data/i.fits', 'mast:v.fits', '/data/b.fits')
    search.session.remember(ImageRefs([source, None, 'https://a.example/'], [''] * 3))
    assert search.session.is_ours('/data/i.fits')
    assert search.session.is_ours('/data/b.fits')
    assert not search.session.is_ours('/data/v.fits')


# ---- settings ------------------------------------------------------------------------------


def test_the_model_may_be_assigned(search, bundle, folder):
    assert search.rank(folder, 'red').meta['clip']['model'] == 'colours'
    search.model = bundle
    assert (search.model, search.session.revision) == (bundle, None)
    ranked = search.rank(folder, 'blue', by='image')
    assert ranked.meta['clip']['model'] == 'tiny'
    assert names(ranked)[0] == 'blue'
    search.model = None
    assert search.model == conf.model
    with conf.set_temp('model', 'no such model'):
        assert search.model == 'no such model'


def test_the_cache_dir_may_be_assigned(search, encoder, folder, tmp_path):
    search.rank(folder, 'red')
    search.cache_dir = tmp_path / 'other'
    assert search.cache_dir == tmp_path / 'other'
    search.rank(folder, 'red')
    assert (tmp_path / 'other' / 'embeddings-3.sqlite').exists()
    assert encoder.n_images == 6
    search.cache_dir = str(tmp_path / 'cache')
    search.rank(folder, 'red')
    assert encoder.n_images == 6


def test_the_device_may_be_assigned(real):
    assert real.device == conf.device == 'auto'
    before = real.session.encoder()
    real.device = 'cpu'
    assert real.device == 'cpu'
    assert real.session.encoder() is not before
    assert real.session.encoder().device == 'cpu'
    real.device = None
    assert real.session.encoder() is before


@pytest.mark.parametrize('name', ['modle', 'max_images', 'encoder', 'mast', 'colour', 'conf'])
def test_nothing_else_may_be_assigned(search, name):
    with pytest.raises(AttributeError, match=f"has no setting '{name}': it has model, device and"):
        setattr(search, name, 'x')
    assert not hasattr(search, name)


def test_sessions_share_the_model(bundle, tmp_path):
    one, other = (ClipSearch(model=bundle, cache_dir=tmp_path / name) for name in 'ab')
    assert one.session.encoder() is other.session.encoder()
    assert one.session is not other.session


@pytest.mark.parametrize(('call', 'message'), [
    (lambda search, image: search.filter(image, 'red', false_alarm=0.1),
     "filter has no option 'false_alarm'"),
    (lambda search, image: search.describe(image, colours=True),
     "describe has no option 'colours': do you mean colour?"),
    (lambda search, image: search.classify(image, ['red', 'blue'], by='image'),
     "classify has no option 'by'."),
    (lambda search, image: search.query_text('red', calib_level=3),
     "query_text has no option 'calib_level': a criterion of the archive goes in criteria={"),
    (lambda search, image: search.query_image(image, limits=3),
     "query_image has no option 'limits': do you mean limit?"),
    (lambda search, image: search.query_tap('red', 'SELECT 1', service='http://a/', radius=3),
     "query_tap has no option 'radius'.")])
def test_an_unknown_option_is_an_error(search, folder, call, message):
    with pytest.raises(InvalidQueryError) as caught:
        call(search, folder / 'red.png')
    assert str(caught.value).startswith(message)


# ---- warnings name the line of the user ------------------------------------------------------


def unread(search, folder, *_):
    (folder / 'broken.png').write_bytes(b'broken')
    search.rank(folder, 'red')


def nothing_ranked(search, folder, *_):
    (folder / 'broken.png').write_bytes(b'broken')
    search.classify(folder / 'broken.png', ['red', 'blue'])


def nothing_stands_out(search, folder, *_):
    (folder / 'red.png').unlink()
    search.filter(folder, 'red')


def no_finds(search, folder, *_):
    search.filter(folder, 'red', false_alarm_rate=0.005)


def uncalibrated(search, folder, *_):
    search(encoder=ColourEncoder(), cache_dir=search.cache_dir).describe(folder, ['red', 'blue'])


def long_phrase(search, folder, *_):
    search.query_image(folder / 'red.png', folder, text='red ' + 'very ' * 100)


def long_phrase_of_refine(search, folder, *_):
    search.refine(search.rank(folder, 'red'), 'red ' + 'very ' * 100)


def long_class(search, folder, *_):
    search.classify(folder, ['red ' * 100, 'blue'])


def lost(search, folder, *_):
    ranked = search.rank(folder, 'red')
    search.clear_cache()
    search.refine(ranked, 'blue')


def unfinished(search, folder, serve, _):
    _, rows = serve_colours(serve, ['red', 'red', 'red'])
    search.rank(rows, 'red', max_images=2)


def unfinished_description(search, folder, serve, _):
    _, rows = serve_colours(serve, ['red', 'green', 'blue'])
    search.describe(rows, ['red', 'blue'], max_images=1)


def cut_short(vo, path):
    rows = [vo.obscore(item) for item in vo.datasets]
    vo.faults = {path: (200, {}, votable(rows, list(rows[0]), status='OVERFLOW'))}


def incomplete(search, folder, _, vo):
    cut_short(vo, '/tap/sync')
    search.query_tap('red', 'SELECT * FROM ivoa.obscore', service=f'{vo.url}/tap')


def incomplete_sia(search, folder, _, vo):
    cut_short(vo, '/sia2/query')
    search.query_sia('red', service=f'{vo.url}/sia2')


def incomplete_mast(search, folder, serve, _):
    serve_colours(serve, ['red', 'green', 'blue'])
    with conf.set_temp('mast_max_rows', 2):
        search.query_criteria('red', criteria={'obs_collection': 'HST'})


@pytest.mark.parametrize(('call', 'category'), [
    (unread, UnreadImagesWarning), (nothing_ranked, NothingRankedWarning),
    (nothing_stands_out, NothingStandsOutWarning), (no_finds, NothingStandsOutWarning),
    (uncalibrated, UncalibratedWarning), (long_phrase, LongPhraseWarning),
    (long_phrase_of_refine, LongPhraseWarning), (long_class, LongPhraseWarning),
    (lost, LostEmbeddingsWarning), (unfinished, UnfinishedWarning),
    (unfinished_description, UnfinishedWarning), (incomplete, IncompleteQueryWarning),
    (incomplete_sia, IncompleteQueryWarning), (incomplete_mast, IncompleteQueryWarning)])
def test_a_warning_names_the_line_of_the_user(tmp_path, folder, serve, vo, call, category):
    search = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        call(search, folder, serve, vo)
    assert category in {item.category for item in caught}
    first = call.__code__.co_firstlineno
    for item in caught:
        assert issubclass(item.category, ClipSearchWarning)
        assert item.filename == __file__
        assert first < item.lineno < first + 6


NESTED = """
def deep(n, say):
    return say() if n == 0 else [deep(n - 1, say) for _ in 'x']

def main(n):
    deep(n, lambda: warn('said', category))
"""


def in_a_file(path):
    """A program that warns from deep within, as if it stood in this file."""
    scope = {'warn': warn, 'category': UnfinishedWarning}
    exec(compile(NESTED, str(path), 'exec'), scope)
    return scope['main']


@pytest.mark.parametrize('depth', [0, 1, 5])
@pytest.mark.parametrize('name', ['x.py', 'cli/x.py', 'search/rank.py'])
def test_a_warning_from_deep_within_the_package(depth, name):
    """As from the command line, whose commands call the verbs of the package."""
    main = in_a_file(Path(astroclip_search.__file__).parent / name)
    with pytest.warns(UnfinishedWarning, match='said') as caught:
        main(depth)
    assert caught[0].filename == __file__


def test_a_neighbour_of_the_package_is_not_the_package():
    path = Path(f'{Path(astroclip_search.__file__).parent}_of_mine', 'x.py')
    with pytest.warns(UnfinishedWarning, match='said') as caught:
        in_a_file(path)(2)
    assert caught[0].filename == str(path)


# ---- what a fresh pair of eyes broke ------------------------------------------------------


@pytest.mark.parametrize('side', ['like', 'unlike'])
@pytest.mark.parametrize('whole', [True, False])
def test_an_example_of_a_strangers_table_opens_no_file(search, folder, tmp_path, side, whole):
    mine = search.rank(folder, 'red')
    private = tmp_path / 'private.png'
    private.write_bytes(content('red'))
    for source in (str(private), f'datalink:http://a.example/x#else={private}'):
        strange = Table({'clip_source': [source], 'clip_status': ['OK']})
        with pytest.raises(ImageError, match='has not read'):
            search.rank(mine, 'red', **{side: strange if whole else strange[0]})
    assert not search.session.is_ours(str(private))
    search.rank(mine, 'red', **{side: mine[0]})


def test_a_copy_has_settings_of_its_own(search):
    for other in (copy.copy(search), copy.deepcopy(search)):
        other.device = 'cpu'
        assert search.device == 'auto'


def test_a_subclass_may_have_settings_of_its_own():
    class Mine(ClipSearchClass):
        def __init__(self):
            super().__init__()
            self.place = 'here'

    mine = Mine()
    assert mine.place == 'here'
    with pytest.raises(AttributeError):
        mine.session = 5


@pytest.mark.parametrize(('name', 'value'), [
    ('model', 5), ('model', ''), ('model', b'x'), ('device', 'gpu'), ('device', ['cpu']),
    ('cache_dir', 5), ('cache_dir', ['here'])])
def test_settings_that_make_no_sense(name, value):
    with pytest.raises(InvalidQueryError, match=f'{name} must be'):
        ClipSearch(**{name: value})
    with pytest.raises(InvalidQueryError, match=f'{name} must be'):
        setattr(ClipSearch(), name, value)


def test_closing_while_another_thread_looks(tmp_path):
    search, failures = ClipSearch(cache_dir=tmp_path), []

    def look():
        try:
            for _ in range(200):
                search.cache_info()
                search.clear_cache()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    search.session.cache()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        search.close()
    assert failures == []


def test_examples_of_query_image_stand_in_one_place(search, folder):
    with pytest.raises(InvalidQueryError, match='query_image'):
        search.query_image(folder / 'red.png', folder, like=folder / 'blue.png')
