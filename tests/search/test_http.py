# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Previews over HTTP, as a user of ``rank`` notices them: what is fetched, what is kept, what fails.
"""

import io
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from astroclip_search import ClipSearch, conf
from astroclip_search.embeddings import pipeline
from astroclip_search.exceptions import (
    NothingRankedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
)
from tests.colours import ColourEncoder, best_colour, content, picture, serve_colours

STATUS = 'clip_status'


def test_previews_of_mast(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green', 'blue'])
    ranked = search.rank(obs, 'blue')
    assert best_colour(ranked) == 'blue'
    assert sorted(mast.downloads()) == sorted(obs['jpegURL'])
    assert ranked['clip_source'].tolist() == ranked['jpegURL'].tolist()


def test_second_rank_downloads_and_embeds_nothing(search, serve, tmp_path):
    mast, obs = serve_colours(serve, ['red', 'green', 'blue'])
    first = search.rank(obs, 'blue')
    mast.clear()
    for again in (search, ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')):
        before = again.session.encoder().n_images
        second = again.rank(obs, 'blue')
        assert again.session.encoder().n_images == before
        assert second['clip_score'].tolist() == first['clip_score'].tolist()
        # Nor its words: only the phrase itself, for pictures and for words.
        texts = again.session.encoder().n_texts
        again.rank(obs, 'red')
        assert again.session.encoder().n_texts == texts + 2
    assert mast.downloads() == []


def test_another_process_shares_the_cache(search, serve, tmp_path, encoder):
    mast, obs = serve_colours(serve, ['red', 'green'])
    obs.write(tmp_path / 'obs.ecsv')
    program = (
        'import sys; from tests.colours import ColourEncoder; from astroclip_search import '
        'ClipSearch; e = ColourEncoder(); s = ClipSearch(encoder=e, cache_dir=sys.argv[1]); '
        'from tests.loopback import point_astroquery_at; point_astroquery_at(sys.argv[3]); '
        'best = s.rank(sys.argv[2], "green"); print(best["jpegURL"][0], e.n_images)')
    command = [sys.executable, '-c', program, tmp_path / 'cache', tmp_path / 'obs.ecsv', mast.url]
    for n_images in (2, 0):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300,
                              cwd=Path(__file__).parents[2])
        assert done.stdout.split() == ['mast:HST/product/p001_green.jpg', str(n_images)], done
    mast.clear()
    search.rank(obs, 'red')
    assert (mast.downloads(), encoder.n_images) == ([], 0)


def test_same_preview_is_fetched_once(search, serve, encoder):
    mast, obs = serve_colours(serve, ['red', 'green'])
    from astropy.table import vstack

    ranked = search.rank(vstack([obs] * 5), 'red', fold_duplicates=False)
    assert len(ranked) == 10
    assert len(mast.downloads()) == 2
    assert encoder.n_images == 2
    assert [best_colour(ranked[i:]) for i in range(10)] == ['red'] * 5 + ['green'] * 5


def test_cache_false_leaves_no_file(search, serve, tmp_path):
    mast, obs = serve_colours(serve, ['red', 'green'])
    ranked = search.rank(obs, 'red', cache=False)
    assert best_colour(ranked) == 'red'
    mast.clear()
    assert all(card.jpeg for card in search.gallery(ranked).cards)
    assert mast.downloads() == []
    assert search.clear_cache() > 0
    assert not (tmp_path / 'cache').exists()


def test_clear_cache(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green'])
    search.rank(obs, 'red')
    mast.clear()
    assert search.clear_cache() == 4  # two pictures, two rows of words
    search.rank(obs, 'red')
    assert len(mast.downloads()) == 2


def test_old_entries_are_made_anew(search, serve, tmp_path):
    mast, obs = serve_colours(serve, ['red'])
    search.rank(obs, 'red')
    mast.clear()
    other = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    other.session.cache()
    with conf.set_temp('cache_max_age', 1e-9):
        other.rank(obs, 'red')
    assert len(mast.downloads()) == 1


def test_edited_file_is_read_anew(search, folder):
    (folder / 'red.png').write_bytes(content('blue'))
    os.utime(folder / 'red.png', ns=(1, 1))
    assert search.rank(folder / 'red.png', 'red')['clip_image'][0] < 0.1
    (folder / 'red.png').write_bytes(content('red'))
    assert search.rank(folder / 'red.png', 'red')['clip_image'][0] > 0.9


def test_max_images_takes_those_whose_metadata_fit_and_goes_on(search, serve):
    colours, words = ['red'] * 6, ['blue', 'red', 'blue', 'red', 'blue', 'green']
    mast, obs = serve_colours(serve, colours, words=words)
    with pytest.warns(UnfinishedWarning, match='6 images would have to be downloaded: only the 2'
                      ) as caught:
        ranked = search.rank(obs, 'red', max_images=2)
    assert caught[0].filename == __file__
    assert sorted(mast.downloads()) == [f'mast:HST/product/p00{i}_red.jpg' for i in (1, 3)]
    assert Counter(ranked[STATUS]) == {'OK': 2, 'SKIPPED': 4}
    assert 'call again to go on' in ranked['clip_message'][-1]
    assert ranked['clip_rank'].mask.tolist() == [False] * 2 + [True] * 4
    with conf.set_temp('max_images', 2), pytest.warns(UnfinishedWarning, match='4 images'):
        ranked = search.rank(obs, 'red')
    assert Counter(ranked[STATUS]) == {'OK': 4, 'SKIPPED': 2}
    ranked = search.rank(obs, 'red', max_images=2)  # the rest, hence no warning
    assert Counter(ranked[STATUS]) == {'OK': 6}
    assert len(mast.downloads()) == 6


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UnfinishedWarning',
                            'ignore::astroclip_search.exceptions.UnreadImagesWarning',
                            'ignore::astroclip_search.exceptions.NothingRankedWarning')
@pytest.mark.parametrize('words', [None, ['red'] * 3 + ['blue'] * 3])
@pytest.mark.parametrize('cache', [True, False])
def test_what_failed_gives_way_to_what_was_not_tried(search, serve, words, cache):
    mast, obs = serve_colours(serve, ['red'] * 6, words=words)
    broken = obs['jpegURL'][:3].tolist()
    mast.faults.update(dict.fromkeys(broken, 'status:404'))

    def rank():
        return search.rank(obs, 'red', max_images=3, cache=cache)

    assert Counter(rank()[STATUS]) == {'ERROR': 3, 'SKIPPED': 3}
    assert Counter(rank()[STATUS]) == {'OK': 3, 'SKIPPED': 3}
    assert mast.downloads().count(broken[0]) == 1
    # Nothing else is left: they are tried again, and have been mended.
    mast.faults.clear()
    assert Counter(rank()[STATUS]) == {'OK': 6}


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UnfinishedWarning',
                            'ignore::astroclip_search.exceptions.UnreadImagesWarning',
                            'ignore::astroclip_search.exceptions.NothingRankedWarning')
def test_the_oldest_failures_are_tried_again_first(search, serve):
    """When all have failed once, some that stay broken must not stand in the way of the others."""
    mast, obs = serve_colours(serve, ['red'] * 5)
    mast.faults.update(dict.fromkeys(obs['jpegURL'], 'status:404'))
    for _ in range(3):
        search.rank(obs, 'red', max_images=2)
    for mended in obs['jpegURL'][2:]:
        del mast.faults[mended]
    for _ in range(3):
        best = search.rank(obs, 'red', max_images=2)
    assert Counter(best[STATUS])['OK'] == 3


def test_max_images_does_not_count_files_or_arrays(search, folder):
    assert len(search.rank(folder, 'red', max_images=0)) == 3
    assert search.rank([picture('red')], 'red', max_images=0)[STATUS][0] == 'OK'


def test_max_images_zero(search, serve):
    mast, obs = serve_colours(serve, ['red'])
    with pytest.warns(UnfinishedWarning), pytest.warns(NothingRankedWarning, match='more than 0'):
        search.rank(obs, 'red', max_images=0)
    assert mast.downloads() == []


MISBEHAVIOUR = {
    'status:404': ('ERROR', 'HTTP 404'), 'status:401': ('DENIED', 'HTTP 401: access denied'),
    'status:403': ('DENIED', 'HTTP 403: access denied'), 'status:204': ('NO_IMAGE', 'HTTP 204'),
    'status:500': ('ERROR', 'HTTP 500'), 'status:418': ('ERROR', 'HTTP 418'),
    'html': ('ERROR', 'a web page'), 'html-as-jpeg': ('ERROR', 'a web page'),
    'empty': ('ERROR', 'empty file'), 'truncated': ('ERROR', 'damaged image'),
    'cut': ('ERROR', 'bytes arrived|connection was broken'),
    'reset': ('ERROR', 'connection was broken'), 'drip': ('ERROR', 'row_timeout'),
    'drip-header': ('ERROR', 'row_timeout|in time'), 'hang': ('ERROR', 'in time'),
    'huge': ('ERROR', 'larger than'), 'endless': ('ERROR', 'larger than'),
    'redirect-loop': ('ERROR', 'more than 5 redirects'),
    'redirect-file': ('ERROR', 'not an http or https address'),
    'redirect:ftp://a.example/b.jpg': ('ERROR', 'not an http or https address'),
    'redirect:http://127.0.0.1:9/': ('ERROR', 'is a private address'),
}


# What ends those that never end by themselves.
PATIENCE = {'drip': ('row_timeout', 1.5), 'drip-header': ('row_timeout', 1.5),
            'hang': ('timeout', 0.8)}


@pytest.mark.parametrize('fault', MISBEHAVIOUR)
def test_misbehaviour_costs_only_its_row(fault, search, serve):
    status, message = MISBEHAVIOUR[fault]
    mast, obs = serve_colours(serve, ['red', 'green', 'blue'], faults={'p001': fault})
    if fault == 'truncated':  # of a larger image, so that half of it is no image
        noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        stream = io.BytesIO()
        from PIL import Image
        Image.fromarray(noise).save(stream, 'PNG')
        mast.archive.files['mast:HST/product/p001_green.jpg'] = stream.getvalue()
    with (conf.set_temp(*PATIENCE.get(fault, ('timeout', 30))),
          conf.set_temp('retries', 0), conf.set_temp('max_bytes', 200_000),
          warnings.catch_warnings(record=True) as caught):
        warnings.simplefilter('always')
        ranked = search.rank(obs, 'red')
    expected = [] if status == 'NO_IMAGE' else [UnreadImagesWarning]
    assert [item.category for item in caught] == expected
    assert best_colour(ranked) == 'red'
    assert ranked['clip_rank'].filled(0).tolist() == [1, 2, 0]
    assert ranked['obs_id'][2] == 'p001'
    assert ranked[STATUS].tolist() == ['OK', 'OK', status]
    assert any(part in ranked['clip_message'][2] for part in message.split('|'))


@pytest.mark.parametrize('fault', ['redirect', 'status:503*2', 'status:429:0*1', 'reset*1',
                                   'cut*1'])
def test_passing_trouble_costs_nothing(fault, search, serve, hurry):
    mast, obs = serve_colours(serve, ['red', 'green'], faults={'p001': fault})
    ranked = search.rank(obs, 'green')
    assert best_colour(ranked) == 'green'
    assert ranked[STATUS].tolist() == ['OK', 'OK']
    assert len(mast.downloads()) > 2


def test_all_bad_is_one_warning(search, serve):
    mast, obs = serve_colours(serve, ['red'] * 3, faults={'mast:': 'status:404'})
    with pytest.warns(NothingRankedWarning, match='None of the 3 rows could be ranked; the first '
                      'says: HTTP 404') as caught:
        ranked = search.rank(obs, 'red')
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert ranked['obs_id'].tolist() == ['p000', 'p001', 'p002']
    mast.faults = {}
    assert best_colour(search.rank(obs, 'red')) == 'red'  # failures are not remembered


def test_dead_server(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green'])
    mast.close()
    with pytest.warns(NothingRankedWarning, match='cannot be reached'):
        search.rank(obs, 'red')


def test_rows_of_every_kind(search, mast):
    from astroquery.mast import Observations

    obs = Observations.query_criteria(obs_collection=['HST', 'HLA'])
    with pytest.warns(UnreadImagesWarning, match='1 of 12'):
        ranked = search.rank(obs, 'red')
    by_status = {status: set(ranked['obsid'][ranked[STATUS] == status])
                 for status in set(ranked[STATUS])}
    rows = [row['obsid'] for row in mast.archive.rows]
    assert by_status['SKIPPED'] == {rows[8]}
    assert by_status['NO_IMAGE'] == {rows[9]}
    assert by_status['ERROR'] == {rows[10]}
    assert by_status['OK'] == {*rows[:8], rows[11]}  # the last has a legacy absolute address
    assert mast.archive.rows[8]['jpegURL'] not in mast.downloads()


def test_broken_addresses_cost_only_their_rows(search, serve):
    _, obs = serve_colours(serve, ['red', 'green', 'blue', 'blue', 'blue'])
    obs['jpegURL'] = [obs['jpegURL'][0], 'http://[broken', 'http://', 'file:///etc/passwd',
                      'https://' + 'x' * 300 + '.example/']
    with pytest.warns(UnreadImagesWarning, match='4 of 5'):
        ranked = search.rank(obs, 'red')
    assert ranked[STATUS].tolist() == ['OK'] + ['ERROR'] * 4


def test_interruption_keeps_what_is_done(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, '_PATIENCE', 60)  # no smaller batches

    class Impatient(ColourEncoder):
        def encode_images(self, pixels):
            if self.n_images >= 4:
                raise KeyboardInterrupt
            return super().encode_images(pixels)

    mast, obs = serve_colours(serve, ['red', 'green'] * 5)
    search = ClipSearch(encoder=Impatient(), cache_dir=tmp_path)
    with conf.set_temp('batch_size', 4), pytest.raises(KeyboardInterrupt):
        search.rank(obs, 'red')
    mast.clear()
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    ranked = again.rank(obs, 'red')
    assert ranked[STATUS].tolist() == ['OK'] * 10
    # The server may note a request of the interrupted search after it was told to forget them.
    assert (again.session.encoder().n_images, len(set(mast.downloads()))) == (6, 6)


def test_progress_bar_is_silent_where_there_is_no_terminal(search, folder, capfd):
    search.rank(folder, 'red', show_progress=True)
    assert capfd.readouterr() == ('', '')
