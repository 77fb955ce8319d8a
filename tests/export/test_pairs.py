"""Real pairs: captions that speak of the picture, and a split without leaks."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from export.pairs import Pair, group, load_pixels, read_manifest, row_words, split, to_square


def manifest_of(folder, **row):
    row = {'id': 'a', 'source': 'apod', 'title': 'T', 'file': 'a.png', **row}
    (folder / 'manifest.jsonl').write_text(json.dumps(row), encoding='utf-8')
    pair, = read_manifest(folder)
    return dict(pair.captions)


def test_captions_are_title_labels_and_sentences_about_the_picture(tmp_path):
    captions = manifest_of(
        tmp_path, title='Spiral Galaxy NGC 1232 Credit:', title_labels=['spiral_galaxy'],
        labels=['spiral_galaxy', 'star'],
        caption='Explanation: The image shows millions of bright stars. Galaxies are old. '
                'The picture above is copyrighted by its author.',
    )
    # Labels taken from the title are trusted, those taken from the long text are not.
    assert set(captions) == {'Spiral Galaxy NGC 1232', 'spiral galaxy',
                             'The image shows millions of bright stars.'}


def test_handedness_is_no_caption_because_training_mirrors(tmp_path):
    captions = manifest_of(tmp_path, source='gz', labels=['spiral galaxy, clockwise'])
    assert set(captions) == {'spiral galaxy', 'galaxy with spiral arms'}


def test_archive_rows_give_their_words(tmp_path):
    captions = manifest_of(tmp_path, source='jwst', title='M-16', labels=['Nebula', '--'],
                           obs_title='Pillars', instrument='NIRCam')
    assert set(captions) == {'Nebula', 'NIRCam image of Nebula', 'M-16, Pillars'}


def test_row_words_leave_the_labels_out():
    pair = Pair('x', 'jwst', title='M-16', obs_title='Pillars', labels=('Nebula',))
    assert row_words(pair) == 'M-16, Pillars'
    assert row_words(Pair('x', 'jwst', title='M-16')) == 'M-16'


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
    from astroclip_search.bundle import Preprocessing
    from astroclip_search.pixels import resize

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


def test_a_group_that_is_most_of_a_source_is_trained_on(tmp_path):
    pairs = [Pair(tmp_path / f'{i}.png', 'a') for i in range(40)]
    groups = np.r_[np.zeros(20, int), np.arange(1, 21)]
    held_out = split(pairs, groups, fractions={'a': 1.0})
    assert not held_out[:20].any()
    assert held_out[20:].all()
