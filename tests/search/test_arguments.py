# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user typed.
"""

import subprocess
import sys

import numpy as np
import pytest
from astroquery.exceptions import InvalidQueryError

from astroclip_search.ranking.order import DUPLICATE_COSINE
from astroclip_search.search.arguments import (
    MAX_CHARACTERS,
    ImageOptions,
    RankOptions,
    check,
    check_count,
    check_criteria,
    check_phrases,
    check_weights,
    make_options,
)


@pytest.mark.parametrize(('text', 'phrases'), [
    ('tidal tail', ['tidal tail']), ('  tidal\n\ttail ', ['tidal tail']),
    (['a', 'b c'], ['a', 'b c']), (('a',), ['a']), (np.array(['a', 'b']), ['a', 'b']),
    ('galaxie à spirale', ['galaxie à spirale']), ('螺旋星系', ['螺旋星系']), ('🌌 x', ['🌌 x']),
    ('M 8', ['M 8']), ('8', ['8']), (iter(['a']), ['a']), ('x' * MAX_CHARACTERS, ['x' * 2000]),
])
def test_phrases(text, phrases):
    found = check_phrases(text)
    assert found == phrases
    assert all(type(phrase) is str for phrase in found)


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'has no word'), (' \u3000 ', 'has no word'), ('!?', 'has no word'), ('🌌', 'has no word'),
    (['a', ''], 'has no word'), (None, 'must be a phrase'), (5, 'must be a phrase'),
    ([], 'must be a phrase'), (b'a', 'must be a phrase'), ([['a']], 'must be a phrase'),
    (['a', None], 'must be a phrase'), ('x' * 10_000, 'has 10000 characters, the limit is 2000'),
])
def test_no_phrases(text, message):
    with pytest.raises(InvalidQueryError, match=f'^my_name {message}') as caught:
        check_phrases(text, 'my_name')
    assert str(caught.value).count('. ') == 0
    assert len(str(caught.value)) < 120


def asked(text, **options):
    found = check(text, RankOptions(**options))
    return found.phrases, found.negatives


def test_query():
    assert asked('a', negative=['b'], by='metadata', limit=1) == (['a'], ['b'])
    assert asked('a') == (['a'], [])


@pytest.mark.parametrize('value', [None, 0, 5, np.int64(3), True])
def test_count(value):
    check_count(value, 'n', 'all')


@pytest.mark.parametrize('value', [-1, 1.0, '1', float('nan'), [1]])
def test_no_count(value):
    with pytest.raises(InvalidQueryError, match='n must be a whole number of at least 0, or None '
                                                'for all rows'):
        check_count(value, 'n', 'all rows')


def test_weights():
    assert check_weights(None) == {}
    assert check_weights({'like': np.float32(2), 'metadata': 0}) == {'like': 2.0, 'metadata': 0.0}
    assert check_weights({'text': 0}, ['text', 'like']) == {'text': 0.0}
    with pytest.raises(InvalidQueryError, match='nothing counts'):
        check_weights({'text': 0, 'like': 0}, ['text', 'like'])


def test_examples_instead_of_a_phrase():
    assert asked(None, like='a.jpg', negative='b') == ([], ['b'])
    with pytest.raises(InvalidQueryError, match='text must be a phrase'):
        asked(None, unlike='a.jpg')
    with pytest.raises(InvalidQueryError, match='text is empty: leave it out'):
        asked('', like='a.jpg')
    with pytest.raises(InvalidQueryError, match='text has no word'):
        asked('?', like='a.jpg')


@pytest.mark.parametrize(('value', 'cosine'), [(True, DUPLICATE_COSINE), (False, None), (0.5, 0.5),
                                               (1, 1.0)])
def test_cosine_of_duplicates(value, cosine):
    assert check('a', RankOptions(fold_duplicates=value)).cosine == cosine


def test_criteria():
    given = {'instrument_name': 'ACS/WFC'}
    assert check_criteria(None) == {}
    assert check_criteria(given) == given
    assert check_criteria(given) is not given, "the caller's own is not changed"


@pytest.mark.parametrize('criteria', ['HST', ['HST'], {1: 'HST'}, 5])
def test_no_criteria(criteria):
    with pytest.raises(InvalidQueryError, match=r'^criteria must be a dictionary such as'):
        check_criteria(criteria)


def test_options():
    assert make_options(RankOptions, 'filter', {'by': 'image'}) == RankOptions(by='image')
    assert make_options(ImageOptions, 'describe', {}) == ImageOptions()


@pytest.mark.parametrize(('kind', 'verb', 'name', 'hint'), [
    (RankOptions, 'filter', 'max_image', ': do you mean max_images?'),
    (RankOptions, 'query_text', 'fold_duplicate', ': do you mean fold_duplicates?'),
    (RankOptions, 'filter', 'mood', '.'), (ImageOptions, 'describe', 'negative', '.'),
    (RankOptions, 'query_tap', 'calib_level', '.'),
    (RankOptions, 'query_text', 'calib_level',
     ": a criterion of the archive goes in criteria={'calib_level': 3}."),
    (RankOptions, 'query_sia', 'raduis', ': do you mean radius?'),
    (RankOptions, 'query_sia', 'facility',
     ": a criterion of the archive goes in criteria={'facility': 3}.")])
def test_unknown_options(kind, verb, name, hint):
    with pytest.raises(InvalidQueryError) as caught:
        make_options(kind, verb, {name: 3})
    assert str(caught.value) == f'{verb} has no option {name!r}{hint}'


def test_light_import():
    program = 'import sys, astroclip_search.search.arguments; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          check=True, timeout=300)
    assert not {'astroquery', 'pyvo', 'onnxruntime', 'PIL', 'requests', 'tokenizers',
                'astropy.table'} & set(done.stdout.split())
