# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From an image to words: ``describe``, its table and its vocabulary.
"""

import dataclasses
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError
from PIL import Image

from astroclip_search import ClipSearch, vocabulary
from astroclip_search.exceptions import (
    LongPhraseWarning,
    NothingRankedWarning,
    UncalibratedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
)
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.calibration import false_alarm_rate
from astroclip_search.search.arguments import check_phrases
from tests import tiny
from tests.colours import picture, serve_colours, shaded
from tests.search.test_rank import ReferenceEncoder

COLUMNS = ['clip_row', 'clip_phrase', 'clip_rank', 'clip_name', 'clip_source', 'clip_message',
           'clip_status', 'clip_score', 'clip_false_alarm']
COLOURS = ['red', 'green', 'blue']


@pytest.fixture
def reference(tmp_path):
    """A search whose reference images are a hundred greys."""
    return ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')


def first(lines):
    """The best phrase of each image by its name."""
    best = lines[np.ma.filled(lines['clip_rank'], 0) == 1]
    return dict(zip(best['clip_name'].tolist(), best['clip_phrase'].tolist(), strict=True))


# ---- what it says ------------------------------------------------------------------------


def test_each_image_gets_its_own_phrase_first(reference, folder):
    lines = reference.describe(folder, COLOURS)
    assert first(lines) == {'red.png': 'red', 'green.png': 'green', 'blue.png': 'blue'}
    assert lines.colnames == COLUMNS
    assert lines['clip_row'].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2], 'images keep their order'
    assert lines['clip_rank'].tolist() == 3 * [1, 2, 3]
    for row in range(3):
        score = lines['clip_score'][lines['clip_row'] == row]
        assert (score[:-1] >= score[1:]).all()
    assert set(lines['clip_status']) == {'OK'}
    assert lines['clip_source'][0] == str(folder / 'blue.png')


def test_scores_are_those_of_a_ranking_by_picture(reference, folder):
    lines = reference.describe(folder, COLOURS, limit=None)
    for phrase in COLOURS:
        ranked = reference.rank(folder, phrase, by='image')
        mine = lines[lines['clip_phrase'] == phrase]
        for name, score, rate in ranked['filename', 'clip_score', 'clip_false_alarm'].iterrows():
            line, = mine[mine['clip_source'] == name]
            assert line['clip_score'] == pytest.approx(score, rel=1e-2)
            assert line['clip_false_alarm'] == pytest.approx(rate)


def test_a_phrase_that_fits_everything_does_not_come_first(search, encoder):
    rng = np.random.default_rng(0)
    reddish = np.column_stack([np.ones(200), 0.1 * rng.random(200), np.zeros(200)])
    orange = Image.fromarray(shaded((220, 160, 0)))
    cosines = search.rank(orange, 'red', by='image')['clip_image']
    assert cosines[0] > search.rank(orange, 'green', by='image')['clip_image'][0]
    encoder.bundle.__dict__['_background'] = Background(normalise(reddish))
    lines = search.describe(orange, ['red', 'green'])
    assert lines['clip_phrase'].tolist() == ['green', 'red'], 'although the cosine of red is larger'
    assert lines['clip_false_alarm'][0] < 0.01
    assert lines['clip_false_alarm'][1] > 0.99


def test_a_real_bundle_gives_exactly_these_numbers(tmp_path):
    bundle = tiny.write_bundle(tmp_path / 'tiny', info={'prompt_templates': ['{}', 'green {}']})
    search = ClipSearch(model=str(bundle), cache_dir=tmp_path)
    image = picture('red')
    lines = search.describe(image, ['red', 'blue'])
    encoder = search.session.encoder()
    vector = search.encode_images(image)[0]
    for phrase, score, rate in lines['clip_phrase', 'clip_score', 'clip_false_alarm'].iterrows():
        texts = encoder.encode_text([phrase, f'green {phrase}'])  # its prompt templates
        text = normalise(texts.mean(axis=0, keepdims=True))[0]
        background = encoder.bundle.background.image @ text
        expected = (vector @ text - background.mean()) / background.std()
        assert score == pytest.approx(expected, rel=2e-3)
        assert rate == pytest.approx(false_alarm_rate(vector[None] @ text - 1e-6, background)[0])
    assert lines['clip_phrase'][0] == 'red'


def test_without_reference_images_it_says_so(search, folder):
    with pytest.warns(UncalibratedWarning, match="model 'colours' has no reference images") as said:
        lines = search.describe(folder, COLOURS)
    assert said[0].filename == __file__
    assert first(lines)['red.png'] == 'red'
    assert lines['clip_score'][0] == pytest.approx(1, abs=1e-2), 'the cosine itself'
    assert lines['clip_false_alarm'].mask.all()
    assert not lines['clip_score'].mask.any()


@pytest.mark.parametrize(('limit', 'n'), [(1, 1), (2, 2), (3, 3), (9, 3), (None, 3)])
def test_limit(reference, folder, limit, n):
    assert len(reference.describe(folder, COLOURS, limit=limit)) == 3 * n


def test_one_phrase_and_repeated_phrases(reference, folder):
    assert len(reference.describe(folder, 'red')) == 3
    lines = reference.describe(folder, ['red', ' red ', 'blue'])
    assert len(lines) == 6
    assert lines.meta['clip']['query'] == ['red', 'blue']


def test_provenance(reference, folder):
    clip = reference.describe(folder, COLOURS).meta['clip']
    assert (clip['query'], clip['vocabulary']) == (COLOURS, None)
    assert (clip['model'], clip['revision']) == ('colours', 'reference')
    assert (clip['n_rows'], clip['n_ranked'], clip['status']) == (3, 3, {'OK': 3})
    clip = reference.describe(folder).meta['clip']
    assert (clip['query'], clip['vocabulary']) == ([], vocabulary.version())


def test_the_default_vocabulary_is_all_of_it(reference):
    lines = reference.describe(picture('red'), limit=None)
    assert sorted(lines['clip_phrase']) == sorted(vocabulary.read())


# ---- images of any kind ------------------------------------------------------------------


def plain():
    return np.array(picture('red'))


@pytest.mark.parametrize('make', [
    lambda: picture('red'), plain, lambda: [plain(), picture('blue')],
    lambda: fits.ImageHDU(np.arange(64.0).reshape(8, 8)),
    lambda: fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.eye(8))])],
    ids=['PIL', 'array', 'list', 'HDU', 'HDUList'])
def test_images_in_memory(reference, make):
    lines = reference.describe(make(), COLOURS, limit=1)
    assert set(lines['clip_status']) == {'OK'}
    assert lines['clip_name'].tolist() == [str(i) for i in range(len(lines))]


def test_files_a_pattern_and_a_row(reference, folder):
    assert first(reference.describe(folder / 'red.png', COLOURS)) == {'red.png': 'red'}
    assert len(reference.describe(str(folder / '*e*.png'), COLOURS, limit=1)) == 3
    table = Table({'image': ['red.png', 'blue.png'], 'target_name': ['M 1', 'M 2']})
    lines = reference.describe(table[1], COLOURS, image_dir=folder)
    assert first(lines) == {'M 2': 'blue'}


def test_rows_of_an_archive_are_downloaded_once(reference, serve):
    mast, obs = serve_colours(serve, ['red', 'green', 'blue'])
    lines = reference.describe(obs, COLOURS, limit=1)
    assert lines['clip_phrase'].tolist() == COLOURS
    n = len(mast.downloads())
    assert n == 3
    best = reference.rank(obs, 'blue', by='image')
    assert first(reference.describe(best, COLOURS)) == first(lines)
    assert len(mast.downloads()) == n


@pytest.mark.parametrize('in_memory', [False, True])
def test_a_ranked_table_and_its_rows(reference, folder, in_memory):
    best = reference.rank([picture(colour) for colour in COLOURS] if in_memory else folder, 'blue',
                          by='image')
    n = reference.session.encoder().n_images
    lines = reference.describe(best, COLOURS, limit=1)
    assert lines['clip_phrase'][0] == 'blue'
    assert reference.describe(best[:1], COLOURS)['clip_phrase'][0] == 'blue'
    assert reference.describe(best[0], COLOURS)['clip_phrase'][0] == 'blue'
    assert reference.classify(best, COLOURS)['clip_class'][0] == 'blue'
    assert reference.session.encoder().n_images == n, 'no image is embedded again'


def test_a_failure_of_the_ranking_is_tried_again(reference, folder, serve):
    table = Table({'image': ['red.png', 'late.png']})
    with pytest.warns(UnreadImagesWarning):
        best = reference.rank(table, 'red', image_dir=folder)
    (folder / 'red.png').rename(folder / 'late.png')
    with pytest.warns(UnreadImagesWarning):
        lines = reference.describe(best, COLOURS, image_dir=folder, limit=1)
    assert lines['clip_status'].tolist() == ['ERROR', 'OK'], 'each file is looked for anew'

    mast, obs = serve_colours(serve, COLOURS, faults={'p001': 'status:404'})
    with pytest.warns(UnreadImagesWarning):
        best = reference.rank(obs, 'red')
    mast.faults.clear()
    lines = reference.describe(best, COLOURS, limit=1)
    assert lines['clip_status'].tolist() == ['OK'] * 3, 'on the network it is tried again'


def test_rows_without_an_image_stay(reference, folder):
    (folder / 'broken.png').write_bytes(b'broken')
    table = Table({'image': ['red.png', '', 'broken.png', 'blue.png'], 'n': [1, 2, 3, 4]})
    with pytest.warns(UnreadImagesWarning, match='1 of 4 images') as said:
        lines = reference.describe(table, COLOURS, image_dir=folder, limit=2)
    assert said[0].filename == __file__
    assert lines['clip_row'].tolist() == [0, 0, 1, 2, 3, 3]
    assert lines['clip_status'].tolist() == ['OK', 'OK', 'NO_IMAGE', 'ERROR', 'OK', 'OK']
    for name in ('clip_phrase', 'clip_rank', 'clip_score', 'clip_false_alarm'):
        assert lines[name].mask.tolist() == [False, False, True, True, False, False], name
    assert lines['clip_message'][2] == 'the row names no image'
    assert table['n'][lines['clip_row']].tolist() == [1, 1, 2, 3, 4, 4], 'lines find their rows'
    assert lines.meta['clip']['n_ranked'] == 2


def test_no_row_has_an_image(reference, folder):
    (folder / 'broken.png').write_bytes(b'broken')
    with pytest.warns(NothingRankedWarning, match='None of the 1 rows'):
        lines = reference.describe(folder / 'broken.png', COLOURS)
    assert (len(lines), lines['clip_phrase'].mask.all()) == (1, True)


def test_an_empty_table(reference):
    with pytest.warns(NothingRankedWarning, match='the table is empty'):
        lines = reference.describe(Table({'jpegURL': np.array([], str)}), COLOURS)
    assert (len(lines), lines.colnames) == (0, COLUMNS)


def test_too_many_images(reference, serve):
    mast, obs = serve_colours(serve, COLOURS)
    with pytest.warns(UnfinishedWarning, match='only the first 1 are. Call again') as said:
        lines = reference.describe(obs, COLOURS, max_images=1, limit=1)
    assert said[0].filename == __file__
    assert lines['clip_status'].tolist() == ['OK', 'SKIPPED', 'SKIPPED']
    assert len(mast.downloads()) == 1
    with pytest.warns(UnfinishedWarning):
        lines = reference.describe(obs, COLOURS, max_images=1, limit=1)
    assert lines['clip_status'].tolist() == ['OK', 'OK', 'SKIPPED'], 'a second call goes on'


@pytest.mark.parametrize(('images', 'phrases', 'options', 'message'), [
    ('red.png', [], {}, 'phrases must be a phrase'),
    ('red.png', ['red', ' '], {}, 'phrases has no word'),
    ('red.png', 3, {}, 'phrases must be a phrase'),
    ('red.png', 'red', {'limit': 0}, 'limit must be a whole number of at least 1'),
    ('red.png', 'red', {'max_images': -1}, 'max_images must be'),
    ('nothing.png', 'red', {}, 'There is no file or folder'),
    (Table({'a': [1]}), 'red', {}, 'no column that names images'),
])
def test_errors(reference, folder, monkeypatch, images, phrases, options, message):
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidQueryError, match=message):
        reference.describe(images, phrases, **options)
    assert reference.session.encoder().n_images == 0


@pytest.mark.parametrize('shown', [True, False, 'live'])
def test_ways_to_show_the_progress(reference, folder, shown):
    lines = reference.describe(folder, COLOURS, show_progress=shown)
    assert first(lines)['red.png'] == 'red'
    with pytest.raises(InvalidQueryError, match="show_progress must be True, False or 'live'"):
        reference.describe(folder, COLOURS, show_progress='yes')


def test_unknown_option(reference, folder):
    for verb in (reference.describe, lambda *args, **options: reference.classify(
            args[0], ['red', 'blue'], **options)):
        with pytest.raises(InvalidQueryError, match="no option 'colours': do you mean colour"):
            verb(folder, 'red', colours=True)


def test_long_phrases_are_told(reference, folder):
    with pytest.warns(LongPhraseWarning, match='the model ignores its end') as said:
        reference.describe(folder, 'red ' * 80)
    assert said[0].filename == __file__


# ---- what it costs -----------------------------------------------------------------------


def test_the_second_description_costs_only_the_images(tmp_path, folder):
    encoder = ReferenceEncoder()
    search = ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')
    search.describe(folder / 'red.png')
    assert (encoder.n_texts, encoder.n_images) == (len(vocabulary.read()), 1)
    search.describe(folder)
    assert (encoder.n_texts, encoder.n_images) == (len(vocabulary.read()), 3)
    again = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    again.describe(folder)
    encoder = again.session.encoder()
    assert (encoder.n_texts, encoder.n_images) == (0, 0), 'from the disk'


def test_another_model_shares_no_phrases(tmp_path, folder):
    for revision in ('one', 'two'):
        encoder = ReferenceEncoder()
        background = encoder.bundle.background
        encoder.bundle = dataclasses.replace(encoder.bundle, revision=revision)
        encoder.bundle.__dict__['_background'] = background
        ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache').describe(folder, COLOURS)
        assert encoder.n_texts == 3


def test_without_a_cache_nothing_is_kept(tmp_path, folder):
    search = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    search.describe(folder, COLOURS, cache=False)
    assert not (tmp_path / 'cache').exists()


# ---- the table ---------------------------------------------------------------------------


def test_a_narrow_terminal_shows_phrases_and_scores(reference, folder):
    lines = reference.describe(folder, ['red', 'a reddish galaxy with much of something'])
    printed = lines.pformat(max_width=80)
    assert max(map(len, printed)) <= 80
    assert re.split(r'\s+', printed[0].strip()) == [
        'clip_row', 'clip_phrase', '...', 'clip_score', 'clip_false_alarm']
    assert re.search(r'\d\.\d{4} +[\d.]+$', printed[2])


@pytest.mark.parametrize(('suffix', 'kind'), [('ecsv', 'ascii.ecsv'), ('csv', 'ascii.csv')])
def test_it_can_be_written(reference, folder, tmp_path, suffix, kind):
    (folder / 'broken.png').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        lines = reference.describe(folder, COLOURS)
    lines.write(tmp_path / f'lines.{suffix}', format=kind)
    read = Table.read(tmp_path / f'lines.{suffix}', format=kind)
    assert read.colnames == COLUMNS
    assert read['clip_phrase'].tolist() == lines['clip_phrase'].tolist()
    assert (read.meta.get('clip') == lines.meta['clip']) == (suffix == 'ecsv')


def test_gallery_shows_each_image_once(reference, folder, tmp_path):
    (folder / 'broken.png').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        lines = reference.describe(folder, [*COLOURS, '<b>red</b>'], limit=2)
    gallery = reference.gallery(lines)
    assert [card.name for card in gallery.cards] == ['blue.png', 'broken.png', 'green.png',
                                                     'red.png']
    assert gallery.cards[0].phrases[0].text == 'blue'
    assert gallery.cards[1].phrases == ()
    assert gallery.cards[1].status.startswith('ERROR')
    assert [card.jpeg is None for card in gallery.cards] == [False, True, False, False]
    assert len(reference.gallery(lines, n=2)) == 2
    html = gallery.write(tmp_path / 'g.html').read_text()
    assert '<b>' not in html
    assert '3 of 4 rows' in html


def test_a_description_can_be_filtered_before_the_gallery(reference, folder):
    lines = reference.describe(folder, COLOURS)
    lines.sort('clip_score', reverse=True)
    kept = lines[lines['clip_rank'] == 1]
    kept.remove_column('clip_rank')
    assert {phrase.text for card in reference.gallery(kept).cards
            for phrase in card.phrases} == set(COLOURS)


# ---- the vocabulary ----------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'least'), [('concepts', 250), ('paperclip', 77),
                                             ('galaxy_zoo', 40)])
def test_sets_of_the_vocabulary(name, least):
    phrases = vocabulary.read(name)
    assert len(phrases) >= least
    assert len({phrase.casefold() for phrase in phrases}) == len(phrases)
    assert check_phrases(phrases) == phrases, 'no stray spaces'
    assert max(map(len, phrases)) <= 39, 'a line of 80 has room for no more'
    assert name != 'paperclip' or len(phrases) == 77


def test_the_whole_vocabulary_has_each_phrase_once():
    whole = vocabulary.read()
    assert len({phrase.casefold() for phrase in whole}) == len(whole)
    for name in ('concepts', 'paperclip', 'galaxy_zoo'):
        assert {phrase.casefold() for phrase in vocabulary.read(name)} <= {
            phrase.casefold() for phrase in whole}
    assert vocabulary.read('paperclip', 'concepts')[:77] == vocabulary.read('paperclip')
    assert 'spiral galaxies' in whole


def test_unknown_set():
    with pytest.raises(InvalidQueryError, match=r'no vocabulary .uat.: there are concepts'):
        vocabulary.read('uat')


def test_the_file_of_the_vocabulary_has_a_version():
    file = Path(vocabulary.__file__).parent / 'data' / 'vocabulary.toml'
    content = tomllib.loads(file.read_text(encoding='utf-8'))
    assert content['version'] == vocabulary.version() >= 1


def test_what_is_returned_can_be_changed():
    vocabulary.read().clear()
    assert vocabulary.read()
