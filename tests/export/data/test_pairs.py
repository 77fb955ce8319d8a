"""Real pairs: captions that speak of the picture, and a split without leaks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from export.data.descriptions import (
    KINDS_OF_LABELS,
    OBJECTS,
    WORDS_OF_LABELS,
    object_key,
    object_kind,
    sentences,
)
from export.data.pairs import (
    Pair,
    group,
    load_pixels,
    read_manifest,
    row_metadata,
    split,
    to_square,
)
from export.sky import KINDS


def manifest_of(folder, **row):
    row = {'id': 'a', 'source': 'apod', 'title': 'T', 'file': 'a.png', **row}
    (folder / 'manifest.jsonl').write_text(json.dumps(row), encoding='utf-8')
    pair, = read_manifest(folder)
    return dict(pair.captions)


def test_captions_are_title_labels_and_sentences_about_the_picture(tmp_path):
    captions = manifest_of(
        tmp_path, title='Spiral Galaxy NGC 1232 Credit:', title_labels=['spiral_galaxy'],
        labels=['spiral_galaxy', 'mars'],
        caption='Explanation: The image shows millions of bright blue stars. Galaxies are old. '
                'The picture above is copyrighted by its author.',
    )
    # Labels taken from the title are trusted, those taken from the long text are not.
    assert {'Spiral Galaxy NGC 1232', 'spiral galaxy', 'galaxy with spiral arms',
            'Millions of bright blue stars.'} <= set(captions)
    assert 'Mars' not in captions
    assert not any('copyright' in text or 'old' in text for text in captions)


@pytest.mark.parametrize(('sentence', 'kept'), [
    ('The above image shows a dark lane of dust across a bright galaxy.',
     'A dark lane of dust across a bright galaxy.'),
    ('Pictured above, blue filaments surround a faint star, taken in May 1999.',
     'Blue filaments surround a faint star.'),
    ('The nebula was discovered in 1781 and is 7000 light-years away.', None),
    ('Astronomers believe that the bright star might explode within a million years.', None),
    ("Tomorrow's picture: bright red dust on the left", None),
    ('Is the bright red star above a giant?', None),
])
def test_sentences_speak_of_what_can_be_seen(sentence, kept):
    assert sentences(sentence) == ([kept] if kept else [])


@pytest.mark.parametrize(('title', 'key', 'kind'), [
    ('M51: The Whirlpool in Infrared', 'm51', 'spiral'),
    ('Messier 051', 'm51', 'spiral'),
    ('NGC-3132', 'ngc3132', 'planetary_nebula'),
    ('The Crab Nebula', 'crab nebula', 'supernova_remnant'),
    ('M81 and M82', 'm81', ''),
    ('A Quiet Evening', '', ''),
    ('M510', 'm510', ''),
])
def test_objects_in_titles(title, key, kind):
    assert object_key(title) == key
    assert object_kind(title) == kind


def test_every_kind_named_by_labels_exists():
    kinds = {*KINDS_OF_LABELS.values(), *WORDS_OF_LABELS.values(), *OBJECTS.values()}
    assert kinds <= set(KINDS)


def test_labels_are_classes_where_the_picture_shows_them(tmp_path):
    def kind_of(**row):
        row = {'id': 'a', 'source': 'gz', 'title': 'T', 'file': 'a.png', **row}
        (tmp_path / 'manifest.jsonl').write_text(json.dumps(row), encoding='utf-8')
        return read_manifest(tmp_path)[0].kind

    assert kind_of(labels=['radio galaxy', 'FRI']) == 'fading_radio_galaxy'
    assert kind_of(labels=['spiral galaxy, clockwise']) == 'spiral'
    assert kind_of(labels=['Protostars']) == ''
    assert kind_of(labels=['comet', 'sun']) == ''
    assert kind_of(labels=[], title='M 13 in colour') == 'globular_cluster'


def test_handedness_is_no_caption_because_training_mirrors(tmp_path):
    captions = manifest_of(tmp_path, source='gz', labels=['spiral galaxy, clockwise'])
    assert {'spiral galaxy', 'galaxy with spiral arms'} <= set(captions)
    assert not any('clockwise' in text for text in captions)


def test_fanaroff_riley_classes_share_no_caption(tmp_path):
    one = manifest_of(tmp_path, source='radio', labels=['FRI'])
    two = manifest_of(tmp_path, source='radio', labels=['FRII'])
    assert not set(one) & set(two)
    assert min(len(one), len(two)) > 10


def test_archive_rows_give_their_words(tmp_path):
    captions = manifest_of(tmp_path, source='jwst', title='M-16', labels=['Nebula', '--'],
                           obs_title='Pillars', instrument='NIRCam')
    assert {'Nebula', 'NIRCam image of Nebula', 'M-16, Pillars'} <= set(captions)
    assert not any('--' in text for text in captions)


def test_row_metadata_leave_the_labels_out():
    pair = Pair('x', 'jwst', title='M-16', obs_title='Pillars', labels=('Nebula',))
    assert row_metadata(pair) == 'M-16, Pillars'
    assert row_metadata(Pair('x', 'jwst', title='M-16')) == 'M-16'


def test_a_file_outside_the_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match='outside its folder'):
        manifest_of(tmp_path, file='../secret.png')


def test_only_plain_image_formats_of_sane_size_are_read(tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.gif')
    with pytest.raises(OSError, match='cannot identify'):
        load_pixels(tmp_path / 'a.gif')
    Image.new('L', (5000, 1)).save(tmp_path / 'wide.png')
    with pytest.raises(ValueError, match='too many'):
        load_pixels(tmp_path / 'wide.png')


def test_to_square_is_the_preprocessing_of_the_product():
    from astroclip_search.images.preprocess import Preprocessing, resize

    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    product = resize(Image.fromarray(pixels),
                     Preprocessing((32, 32), None, 3, (0.5,) * 3, (0.5,) * 3))
    np.testing.assert_array_equal(to_square(pixels, 32), product)


@pytest.fixture
def reposts():
    """Thirty centred disks, one repeated with noise, and two pictures of one target."""
    rng = np.random.default_rng(1)
    pairs = [Pair(f'{i}.png', 'sdss', title=f'object {i}') for i in range(32)]
    rows, columns = np.mgrid[:16, :16]
    disk = 150 * np.exp(-((rows - 8) ** 2 + (columns - 8) ** 2) / 20)
    images = disk + rng.normal(60, 25, (32, 16, 16))
    images[31] = images[4] + rng.normal(0, 2, (16, 16))
    pairs[30] = Pair('30.png', 'sdss', title='Object-7')
    thumbnails = np.clip(images, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    return pairs, thumbnails


def test_groups_join_reposts_and_targets_and_nothing_else(reposts):
    groups = group(*reposts)
    assert groups[31] == groups[4]
    assert groups[30] == groups[7]
    assert len(set(groups)) == 30


def test_split_keeps_groups_whole_and_does_not_depend_on_order(tmp_path):
    pairs = [Pair(tmp_path / f'{i}.png', 'a' if i < 300 else 'b') for i in range(400)]
    groups = np.arange(400) // 2
    held_out = split(pairs, groups, fractions={'a': 0.5}, default=0.1)
    assert (held_out[::2] == held_out[1::2]).all()
    assert 0.35 < held_out[:300].mean() < 0.65
    assert held_out[300:].mean() < 0.3
    backwards = split(pairs[::-1], groups[::-1], fractions={'a': 0.5}, default=0.1)
    np.testing.assert_array_equal(backwards[::-1], held_out)


def test_an_object_is_one_group_whatever_the_source(reposts):
    pairs, thumbnails = reposts
    pairs[2] = Pair('2.png', 'sdss', title='M51')
    pairs[3] = Pair('3.png', 'apod', title='The Whirlpool Galaxy, Messier 51')
    groups = group(pairs, thumbnails)
    assert groups[2] == groups[3]


def test_a_source_can_be_left_out():
    pairs = [Pair(f'{i}.png', 'jwst' if i % 4 == 0 else 'apod') for i in range(200)]
    pairs = [Pair(Path(pair.file), pair.source) for pair in pairs]
    groups = np.arange(200) // 2
    held_out = split(pairs, groups, fractions={'apod': 0.0}, leave_out=['jwst'])
    # Pictures of other sources in a group with the one left out go with it.
    np.testing.assert_array_equal(held_out, np.arange(200) // 2 % 2 == 0)


def test_a_group_that_is_most_of_a_source_is_trained_on(tmp_path):
    pairs = [Pair(tmp_path / f'{i}.png', 'a') for i in range(40)]
    groups = np.r_[np.zeros(20, int), np.arange(1, 21)]
    held_out = split(pairs, groups, fractions={'a': 1.0})
    assert not held_out[:20].any()
    assert held_out[20:].all()


def test_a_side_that_the_manifest_fixes_is_kept(tmp_path):
    for name, side in (('a', 'train'), ('b', 'validation'), ('c', 'test'), ('d', '')):
        row = {'id': name, 'source': 'hst', 'title': name, 'file': f'{name}.png', 'split': side}
        with open(tmp_path / 'manifest.jsonl', 'a', encoding='utf-8') as lines:
            lines.write(json.dumps(row) + '\n')
    pairs = read_manifest(tmp_path)
    assert split(pairs, np.arange(4), fractions={'hst': 0.0}).tolist() == [False, True, True, False]
    assert split(pairs, np.arange(4), fractions={'hst': 1.0}).tolist() == [False, True, True, True]
