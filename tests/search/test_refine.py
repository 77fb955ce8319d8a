# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Examples, groups and near-duplicates in ``rank``, and ranking again with ``refine``.
"""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.exceptions import (
    ImageError,
    LostEmbeddingsWarning,
    NothingRankedWarning,
    UnreadImagesWarning,
)
from tests.colours import ColourEncoder, best_colour, content, picture, serve_colours, shaded
from tests.search.test_rank import ReferenceEncoder


def names(ranked):
    """Colours of a ranked folder, best first."""
    return [Path(name).stem for name in ranked['filename']]


def plain(colour):
    return shaded(np.array(picture(colour))[0, 0], (8, 8))


# ---- like and unlike ---------------------------------------------------------------------


def hdu(colour):
    """A picture has one plane in FITS: white, which is as far from each colour."""
    return fits.ImageHDU(np.arange(64.0).reshape(8, 8))


@pytest.mark.parametrize('make', [
    picture, content, plain, lambda colour: [picture(colour), content(colour)],
    lambda colour: Table({'clip_source': ['']})], ids=['PIL', 'bytes', 'array', 'list', 'empty'])
def test_like_an_image_in_memory(search, folder, make):
    example = make('blue')
    if isinstance(example, Table):
        with pytest.raises(ImageError, match='an example has no image'):
            search.rank(folder, like=example)
        return
    ranked = search.rank(folder, like=example)
    assert names(ranked)[0] == 'blue'
    assert ranked['clip_image'][0] == pytest.approx(1, abs=1e-3)
    assert ranked['clip_metadata'].mask.all()
    assert ranked.meta['clip']['query'] == []
    assert all(source.startswith('sha256:') for source in ranked.meta['clip']['like'])


@pytest.mark.parametrize('make', [hdu, lambda colour: fits.HDUList([fits.PrimaryHDU(), hdu('')]),
                                  lambda colour: CCDData(np.eye(8), unit='adu')])
def test_like_data(search, folder, make):
    assert len(search.rank(folder, like=make('red'))) == 3


def test_like_files_and_a_folder(search, folder, tmp_path):
    assert names(search.rank(folder, like=folder / 'green.png'))[0] == 'green'
    ranked = search.rank(folder, like=[str(folder / 'green.png'), folder / 'red.png'])
    assert names(ranked)[2] == 'blue'
    assert ranked.meta['clip']['like'] == [str(folder / 'green.png'), str(folder / 'red.png')]


def test_like_an_address_and_a_row(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green', 'blue'])
    first = search.rank(obs, 'red', by='image')
    n = len(mast.downloads())
    last = best_colour(first[2:])
    for example in (first[2], first[2:], first['clip_source'][2], [first[2]],
                    obs[obs['jpegURL'] == first['jpegURL'][2]]):
        assert best_colour(search.rank(obs, like=example)) == last
    assert len(mast.downloads()) == n  # all were in the cache
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=search.cache_dir)
    address = f'{mast.url}/api/v0.1/Download/file?uri={obs["jpegURL"][1]}'
    assert best_colour(again.rank(obs, like=address)) == 'green'
    assert len(mast.downloads()) == n + 1


def test_text_likes_and_dislikes_compose(search, folder):
    def mixed(*colours):
        return shaded([255 * (colour in colours) for colour in ('red', 'green', 'blue')], (8, 8))

    for name, colours in (('yellow', ('red', 'green')), ('purple', ('red', 'blue'))):
        Image.fromarray(mixed(*colours)).save(folder / f'{name}.png')
    assert names(search.rank(folder, 'red', like=picture('blue'),
                             weights={'like': 1}))[0] == 'purple'
    assert names(search.rank(folder, 'red', like=picture('blue'),
                             weights={'like': 0}))[0] == 'red'
    assert names(search.rank(folder, 'red', unlike=mixed('blue')))[1] == 'yellow'
    assert names(search.rank(folder, 'red', unlike=mixed('green')))[1] == 'purple'
    assert names(search.rank(folder, like=mixed('red', 'green'), negative='green'))[0] == 'red'
    assert names(search.rank(folder, like=mixed('red', 'green'), negative='red'))[0] == 'green'


def test_meta_says_what_counted(search, folder):
    meta = search.rank(folder, 'red', like=folder / 'green.png', unlike=picture('blue'),
                       weights={'like': 2, 'metadata': 0.25}).meta['clip']
    assert meta['like'] == [str(folder / 'green.png')]
    assert meta['unlike'][0].startswith('sha256:')
    assert meta['weights'] == {'text': 1.0, 'negative': 0.5, 'like': 2.0, 'unlike': 0.5,
                               'metadata': 0.25}


@pytest.fixture
def reference(tmp_path):
    return ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')


def test_the_false_alarm_rate_is_that_of_the_combined_score(reference, folder):
    ranked = reference.rank(folder, 'red', like=picture('green'), unlike=picture('blue'))
    encoder = reference.session.encoder()
    background = encoder.bundle.background.image
    red, green, blue = (reference.encode_images(picture(c))[0] for c in ('red', 'green', 'blue'))
    text = encoder.encode_text(['red'])[0]

    def term(vectors, query):
        return (vectors @ query) / (background @ query).std()

    def combined(vectors):
        return term(vectors, text) + 0.5 * term(vectors, green) - 0.5 * term(vectors, blue)

    rows = np.stack([{'red': red, 'green': green, 'blue': blue}[name] for name in names(ranked)])
    reached = (combined(background)[None] >= combined(rows)[:, None]).mean(axis=1)
    np.testing.assert_allclose(ranked['clip_false_alarm'], reached, atol=0.011)
    assert ranked['clip_false_alarm'][-1] > 0.5
    kept = reference.filter(folder, like=picture('green'))
    assert names(kept) == ['green']


def test_metadata_count_only_with_a_phrase(reference, serve):
    _, obs = serve_colours(serve, ['red', 'green'], words=['green', 'red'])
    ranked = reference.rank(obs, like=content('red', 'JPEG'))
    assert best_colour(ranked) == 'red'
    assert ranked['clip_metadata'].mask.all()
    assert best_colour(reference.rank(obs, 'red', weights={'metadata': 9})) == 'green'
    assert best_colour(reference.rank(obs, 'red', weights={'metadata': 0})) == 'red'


@pytest.mark.parametrize(('options', 'message'), [
    ({}, 'text must be a phrase'), ({'unlike': content('red')}, 'text must be a phrase'),
    ({'like': content('red'), 'by': 'metadata'}, "by='both' or by='image'"),
    ({'like': []}, 'like has 0 images'), ({'like': [content('red')] * 101}, 'like has 101 images'),
    ({'like': 5}, 'use refine'), ({'like': 'nothing.jpg'}, 'no file or folder'),
    ({'text': 'red', 'weights': {'liked': 1}},
     'keys text, negative, like, unlike, image, metadata'),
    ({'text': 'red', 'weights': {'like': -1}}, "The weight 'like' must be"),
    ({'text': 'red', 'weights': {'like': float('nan')}}, "The weight 'like' must be"),
    ({'text': 'red', 'weights': {'like': '1'}}, "The weight 'like' must be"),
    ({'text': 'red', 'weights': 1}, 'weights must be'),
    ({'text': 'red', 'weights': {'text': 0}}, 'nothing counts'),
    ({'text': 'red', 'fold_duplicates': 2}, 'fold_duplicates must be'),
    ({'text': 'red', 'fold_duplicates': 'yes'}, 'fold_duplicates must be'),
    ({'text': 'red', 'fold_duplicates': True, 'by': 'metadata'},
     'fold_duplicates compares pictures'),
    ({'text': 'red', 'group_by': 'proposal_id'}, "no column 'proposal_id'"),
])
def test_bad_arguments(search, folder, options, message, encoder):
    with pytest.raises(InvalidQueryError, match=message):
        search.rank(folder, **options)
    assert encoder.n_images <= 1


@pytest.mark.parametrize('example', [b'broken', 'mast:HST/product/gone.jpg'])
def test_an_example_that_cannot_be_read(search, folder, mast, example):
    with pytest.raises(ImageError, match='an example cannot be used'):
        search.rank(folder, like=example)


# ---- groups and near-duplicates ----------------------------------------------------------


@pytest.fixture
def table(folder):
    """Reds of decreasing purity, two a proposal, and one row without any picture."""
    files = []
    for i in range(6):
        Image.fromarray(shaded((255, 40 * i, 0), (8, 8))).save(folder / f'{i}.png')
        files.append(f'{i}.png')
    return Table({'image': [*files, 'missing.png'], 'n': np.arange(7),
                  'proposal_id': ['a', 'a', 'a', 'b', 'b', '', 'c']})


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UnreadImagesWarning')
def test_groups_take_turns_and_the_limit_comes_after(search, table, folder):
    plain = search.rank(table, 'red', by='image', image_dir=folder)
    ranked = search.rank(table, 'red', by='image', image_dir=folder, group_by='proposal_id')
    assert plain['n'].tolist() == list(range(7))
    assert ranked['n'].tolist() == [0, 3, 5, 1, 4, 2, 6]
    assert ranked['clip_rank'].filled(0).tolist() == [1, 2, 3, 4, 5, 6, 0]
    scores = dict(zip(plain['n'], plain['clip_score'], strict=True))
    assert all(scores[n] == score for n, score in zip(ranked['n'], ranked['clip_score'],
                                                      strict=True) if n != 6)
    best = search.rank(table, 'red', by='image', image_dir=folder, group_by='proposal_id', limit=3)
    assert best['n'].tolist() == [0, 3, 5]


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UnreadImagesWarning')
def test_near_duplicates_step_back_and_say_why(search, table, folder):
    ranked = search.rank(table, 'red', by='image', image_dir=folder, fold_duplicates=0.97)
    kept = [message == '' for message in ranked['clip_message']]
    assert ranked['n'].tolist() == [0, 2, 4, 1, 3, 5, 6]
    assert kept == [True] * 3 + [False] * 4
    assert ranked['clip_message'].tolist()[3:6] == [
        f'nearly the same picture as rank {i}' for i in (1, 2, 3)]
    assert set(ranked['clip_status'][:6]) == {'OK'}
    both = search.rank(table, 'red', by='image', image_dir=folder, fold_duplicates=0.97,
                       group_by='proposal_id')
    assert both['n'].tolist() == [0, 4, 2, 1, 3, 5, 6]
    assert both['clip_message'].tolist()[4] == 'nearly the same picture as rank 3'


def test_the_same_image_twice_is_a_duplicate(search, folder):
    table = Table({'image': ['red.png', 'blue.png', 'red.png'], 'n': [0, 1, 2]})
    ranked = search.rank(table, 'red', by='image', image_dir=folder, fold_duplicates=True)
    assert ranked['n'].tolist() == [0, 1, 2]
    assert ranked['clip_message'][2] == 'nearly the same picture as rank 1'


def test_filter_groups_and_limits_what_is_kept(reference, folder):
    table = Table({'image': ['red.png', 'red.png', 'blue.png', 'red.png'],
                   'p': ['a', 'a', 'c', 'b'], 'n': np.arange(4)})
    options = {'image_dir': folder, 'group_by': 'p', 'fold_duplicates': False}
    assert reference.filter(table, 'red', **options)['n'].tolist() == [0, 3, 1]
    # Blue, third in turn, is not kept and takes no place of the three.
    assert reference.filter(table, 'red', limit=3, **options)['n'].tolist() == [0, 3, 1]
    assert reference.filter(table, 'red', limit=2, **options)['n'].tolist() == [0, 3]


def test_empty_answer_without_the_column(search):
    with pytest.warns(NothingRankedWarning):
        assert len(search.rank(Table({'jpegURL': np.array([], str)}), 'red', group_by='p')) == 0


# ---- refine ------------------------------------------------------------------------------


@pytest.fixture
def ranked(search, serve, encoder):
    """Rank over the network; afterwards the server is gone and the model sees no image."""
    mast, obs = serve_colours(serve, ['red', 'blue', 'green', 'red'],
                              words=['a', 'b', 'c', 'd'])
    table = search.rank(obs, 'red', by='image', fold_duplicates=False)
    table.server = mast
    mast.faults = {'p0': 'status:503'}
    encoder.encode_images = None
    return table


def order(table):
    return [url.rsplit('_', 1)[1].removesuffix('.jpg') for url in table['jpegURL']]


def test_refine_without_a_download(search, ranked):
    assert order(ranked) == ['red', 'red', 'blue', 'green']
    n = len(ranked.server.downloads())
    again = search.refine(ranked, liked=4, disliked=[1], weights={'like': 3})
    assert order(again)[0] == 'green'
    assert len(ranked.server.downloads()) == n
    assert set(again.colnames) == {*ranked.colnames, 'clip_label'}
    assert again['clip_rank'].tolist() == [1, 2, 3, 4]
    assert again.meta['clip']['query'] == ['red']
    assert again.meta['clip']['like'] == [ranked['clip_source'][3]]
    # The same picture under two names is judged once.
    assert sorted(again.meta['clip']['unlike']) == sorted(ranked['clip_source'][:2])
    assert ranked.meta['clip']['like'] == []


@pytest.mark.parametrize('point', [
    lambda t: [4], lambda t: 4, lambda t: np.array([4]), lambda t: t['clip_rank'][3],
    lambda t: t[3], lambda t: t[3:], lambda t: [t[3]], lambda t: t['clip_rank'] == 4,
    lambda t: [False, False, False, True], lambda t: (4,)])
def test_ways_to_point_at_rows(search, ranked, point):
    again = search.refine(ranked, liked=point(ranked), weights={'like': 3})
    assert order(again)[0] == 'green'


def test_refining_again_adds_and_takes_back(search, ranked):
    blue, green = ranked['clip_source'][2], ranked['clip_source'][3]
    first = search.refine(ranked, liked=3)
    assert order(first) == ['blue', 'red', 'green', 'red']  # of the reds one is a copy
    second = search.refine(first, liked=first[2], disliked=ranked[2])
    assert second.meta['clip']['like'] == [green]
    assert second.meta['clip']['unlike'] == [blue]
    assert order(second)[:1] + order(second)[-1:] == ['green', 'blue']
    assert search.refine(second, 'green').meta['clip']['like'] == [green]
    third = search.refine(second, liked=ranked[2])
    assert third.meta['clip']['like'] == [green, blue]
    assert third.meta['clip']['unlike'] == []
    assert search.refine(third, forget=third[0]).meta['clip']['like'] == [
        {'blue': green, 'green': blue}[order(third)[0]]]
    none = search.refine(third, forget='all')
    assert none['clip_label'].mask.all()
    assert none.meta['clip']['like'] == none.meta['clip']['liked'] == []


def test_refine_by_another_phrase_and_options(search, ranked):
    assert order(search.refine(ranked, 'green'))[0] == 'green'
    assert order(search.refine(ranked, ['red', 'blue'], negative='red'))[0] == 'blue'
    assert len(search.refine(ranked, 'green', limit=2)) == 2
    assert order(search.refine(ranked, fold_duplicates=True)) == ['red', 'blue', 'green', 'red']
    back = search.refine(search.refine(ranked, fold_duplicates=True), fold_duplicates=False)
    assert order(back) == ['red', 'red', 'blue', 'green']
    assert not any(back['clip_message'])
    ranked['p'] = ['x', 'x', 'y', 'y']
    assert order(search.refine(ranked, group_by='p', fold_duplicates=False)) == [
        'red', 'blue', 'red', 'green']


def test_refine_a_table_from_a_file(search, ranked, tmp_path):
    ranked.meta['clip']['selection'] = 'as before'
    ranked.write(tmp_path / 'ranked.ecsv')
    again = search.refine(Table.read(tmp_path / 'ranked.ecsv'), liked=4, weights={'like': 3})
    assert order(again)[0] == 'green'
    assert again.meta['clip']['selection'] == 'as before'


def test_refine_what_is_in_memory(search, folder, encoder):
    objects = [picture('red'), picture('green'), picture('blue')]
    ranked = search.rank(objects, 'red', cache=False)
    encoder.encode_images = None
    again = search.refine(ranked, liked=ranked[2], weights={'text': 0})
    assert again['index'][0] == ranked['index'][2]
    assert not search.session.cache_path().exists()


@pytest.mark.parametrize('cache', [True, False])
def test_refine_finds_where_the_embeddings_are(search, folder, cache):
    search.rank([picture('red')], 'red', cache=not cache)
    ranked = search.rank(folder, 'red', cache=cache)
    assert names(search.refine(ranked, 'blue'))[0] == 'blue'


def test_rows_that_failed_stay_last(search, folder):
    (folder / 'broken.png').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(folder, 'red')
    again = search.refine(ranked, 'blue')
    assert names(again)[0] == 'blue'
    assert again['clip_status'][3] == 'ERROR'
    assert again['clip_message'][3] == ranked['clip_message'][3]


def test_embeddings_that_are_gone(search, folder):
    ranked = search.rank(folder, 'red')
    (folder / 'green.png').unlink()
    with pytest.warns(LostEmbeddingsWarning, match='embeddings of 1 of 3 rows are not kept'):
        again = search.refine(ranked, 'blue')
    assert names(again) == ['blue', 'red', 'green']
    assert again['clip_status'][2] == 'OK'
    assert again['clip_message'][2] == 'its embedding is not kept any more: rank again'
    assert again['clip_rank'].mask.tolist() == [False, False, True]
    assert again.meta['clip']['n_ranked'] == 2
    search.clear_cache()
    with pytest.warns(LostEmbeddingsWarning, match='embeddings of 3 of 3'):
        search.refine(ranked, 'blue')
    with pytest.raises(InvalidQueryError, match='not in the cache: rank the table again'):
        search.refine(ranked, liked=1)


@pytest.mark.parametrize(('options', 'message'), [
    ({'liked': 9}, 'liked names rank 9'), ({'disliked': [1, 0]}, 'disliked names rank 0'),
    ({'liked': 'red'}, 'liked must be ranks'), ({'liked': [True]}, 'liked must be ranks'),
    ({'liked': 1.5}, 'liked must be ranks'), ({'liked': True}, 'liked must be ranks'),
    ({'liked': 1, 'disliked': 1}, 'both liked and disliked'), ({'by': 'pixels'}, 'by must be'),
    ({'limit': 0}, 'limit must be'), ({'group_by': 'no'}, "no column 'no'"),
    ({'text': ''}, 'text has no word')])
def test_bad_arguments_of_refine(search, folder, options, message):
    ranked = search.rank(folder, 'red')
    with pytest.raises(InvalidQueryError, match=message):
        search.refine(ranked, **options)


@pytest.mark.parametrize('what', ['table', 'path'])
def test_refine_needs_a_ranked_table(search, folder, what):
    with pytest.raises(InvalidQueryError, match='refine takes a table that rank'):
        search.refine(Table({'image': ['red.png']}) if what == 'table' else folder, 'red')


@pytest.mark.parametrize('meta', [None, 'text', {'query': 5}, {'query': ['red'], 'by': 3},
                                  {'query': ['red'], 'weights': {'like': -1}}, {}])
def test_hostile_provenance(search, folder, meta):
    ranked = search.rank(folder, 'red')
    ranked.meta['clip'] = meta
    with pytest.raises(InvalidQueryError):
        search.refine(ranked)
    assert names(search.refine(ranked, 'blue', by='image', weights={}))[0] == 'blue'
