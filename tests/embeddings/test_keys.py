# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The cache gives back a vector only for the picture that it was made of.
"""

import dataclasses
import inspect
import io
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astroclip_search import ClipSearch, conf
from astroclip_search.embeddings.cache import Cache
from astroclip_search.embeddings.collect import collect
from astroclip_search.embeddings.pipeline import (
    Pipeline,
    image_space,
    metadata_space,
    phrase_space,
)
from astroclip_search.images import render
from astroclip_search.images.drawing import Drawing
from astroclip_search.images.http import Fetcher, Limits
from astroclip_search.images.preprocess import Preprocessing
from astroclip_search.images.refs import ImageRefs, colour, image_key
from tests.colours import COLOURS, ColourEncoder, content


@pytest.fixture
def pipeline(tmp_path):
    cache, fetcher = Cache(tmp_path / 'cache.sqlite'), Fetcher(Limits())
    yield Pipeline(ColourEncoder(), cache, fetcher, str)
    fetcher.close()
    cache.close()


def colours_of(space, positions):
    """The colour that each vector is of, None where there is none."""
    return [list(COLOURS)[int(space.matrix[position].argmax())] if position >= 0 else None
            for position in positions]


def refs_of(*files):
    return ImageRefs([str(file) for file in files], [''] * len(files))


# ---- how it is drawn ---------------------------------------------------------------------


def test_a_drawing_is_all_that_is_said_to_render():
    names = [field.name for field in dataclasses.fields(Drawing)]
    given = inspect.signature(render.render).parameters
    assert names == [name for name in given if name != 'source']
    defaults = Drawing()
    assert all(getattr(defaults, name) == given[name].default for name in names)
    assert set(inspect.signature(render.plane).parameters) - {'source'} <= set(names)


@pytest.mark.parametrize('change', [
    {'side': 100}, {'bitmap_side': 100}, {'plane': 'sum'}, {'plane': 0}, {'plane': 7}])
def test_what_changes_pixels_changes_the_key(change):
    assert Drawing(**change).key != Drawing().key


def test_limits_are_no_part_of_the_key():
    assert Drawing(max_pixels=1, max_bytes=1).key == Drawing().key


def test_spaces_change_with_what_their_vectors_depend_on(monkeypatch):
    one, other = ColourEncoder('one'), ColourEncoder('other')
    larger = ColourEncoder('one')
    larger.bundle = dataclasses.replace(
        larger.bundle, preprocessing=Preprocessing((224, 224), None, 3, (0.5,) * 3, (0.5,) * 3))
    names = [image_space(one), image_space(other), image_space(larger), image_space(one, 'peak'),
             image_space(one, 3), metadata_space(one), metadata_space(other), phrase_space(one)]
    words = metadata_space(one), phrase_space(one)
    monkeypatch.setattr(render, 'RENDER_VERSION', 'next')
    assert len({*names, image_space(one)}) == 9
    assert (metadata_space(one), phrase_space(one)) == words, 'words are not drawn'


def test_the_file_of_the_model_is_a_part_of_the_space():
    class Precise(ColourEncoder):
        precision = 'fp16'

        def file_of(self, tower):
            return f'{tower}_model_{self.precision}'

    encoder = Precise()
    before = [space(encoder) for space in (image_space, metadata_space, phrase_space)]
    assert before[0].startswith('colours/vision_model_fp16/image/')
    assert before[1:] == ['colours/text_model_fp16/words', 'colours/text_model_fp16/phrases']
    encoder.precision = 'quantized'
    after = [space(encoder) for space in (image_space, metadata_space, phrase_space)]
    assert not set(before) & set(after)


# ---- files that change -------------------------------------------------------------------


def replacing(monkeypatch, *steps):
    """Have something happen when an image has been read, the first time, the second and so on."""
    read, left = render.render, list(steps)

    def reading(source, **options):
        image = read(source, **options)
        if left:
            left.pop(0)()
        return image

    monkeypatch.setattr(render, 'render', reading)


def test_a_file_that_is_replaced_while_it_is_read(pipeline, tmp_path, monkeypatch):
    file = tmp_path / 'a.png'
    file.write_bytes(content('red'))
    new = tmp_path / 'new'
    new.write_bytes(content('blue'))
    replacing(monkeypatch, lambda: os.replace(new, file))
    space, positions, outcomes = collect(refs_of(file), pipeline)
    assert colours_of(space, positions) == ['blue'], 'it was read again'
    assert outcomes.key(0) == image_key(str(file))
    assert pipeline.encoder.n_images == 1
    again = collect(refs_of(file), pipeline)
    assert colours_of(*again[:2]) == ['blue']
    assert pipeline.encoder.n_images == 1, 'the vector is kept'


def test_neither_size_nor_time_betray_it(pipeline, tmp_path, monkeypatch):
    """As when a program copies another image over it and sets back the time."""
    file = tmp_path / 'a.bmp.png'
    red, blue = (content(name) for name in ('red', 'blue'))
    size = max(len(red), len(blue))
    red, blue = (found.ljust(size, b'\0') for found in (red, blue))
    file.write_bytes(red)
    state = file.stat()

    def overwrite():
        file.write_bytes(blue)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))

    replacing(monkeypatch, overwrite)
    space, positions, _ = collect(refs_of(file), pipeline)
    now = file.stat()
    assert (now.st_size, now.st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert colours_of(space, positions) == ['blue']
    file.write_bytes(red)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert colours_of(*collect(refs_of(file), pipeline)[:2]) == ['red']


def test_a_file_that_does_not_keep_still_has_a_vector_that_is_not_kept(pipeline, tmp_path,
                                                                       monkeypatch):
    file, still = tmp_path / 'a.png', tmp_path / 'b.png'
    file.write_bytes(content('red'))
    still.write_bytes(content('green'))
    times = iter(range(1, 100))

    def touch():
        os.utime(file, ns=(next(times),) * 2)

    replacing(monkeypatch, *[touch] * 10)
    space, positions, outcomes = collect(refs_of(file, still, file), pipeline)
    assert colours_of(space, positions) == ['red', 'green', 'red']
    assert outcomes.is_ok(0)
    assert pipeline.cache.counts()['vectors'] <= 1
    assert pipeline.cache.thumbnail(pipeline.thumbnail_key(image_key(str(file)))) is None
    before = pipeline.encoder.n_images
    file.write_bytes(content('blue'))
    assert colours_of(*collect(refs_of(file), pipeline)[:2]) == ['blue']
    assert pipeline.encoder.n_images == before + 1


def test_a_file_that_is_being_written_is_read_when_it_is_whole(pipeline, tmp_path, monkeypatch):
    file = tmp_path / 'a.png'
    whole = content('green')
    file.write_bytes(whole[:40])
    read = render.render

    def reading(source, **options):
        try:
            return read(source, **options)
        finally:
            if file.stat().st_size < len(whole):
                file.write_bytes(whole)

    monkeypatch.setattr(render, 'render', reading)
    space, positions, _ = collect(refs_of(file), pipeline)
    assert colours_of(space, positions) == ['green']


def test_a_file_that_changes_after_it_was_read_still_has_its_row(pipeline, tmp_path, monkeypatch):
    """All that is asked about a row in one call is of the picture that was read."""
    files = [tmp_path / f'{name}.png' for name in COLOURS]
    for file, name in zip(files, COLOURS, strict=True):
        file.write_bytes(content(name))
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    put = Cache.put

    def then_edit(self, *args):
        put(self, *args)
        for file in files:
            file.write_bytes(content('blue') + b'edited')

    monkeypatch.setattr(Cache, 'put', then_edit)
    best = search.rank(files, 'green', by='image', fold_duplicates=True, show_progress=False)
    assert Path(best['clip_source'][0]).stem == 'green'
    assert best['clip_rank'].filled(0).tolist() == [1, 2, 3]
    assert not any('same picture' in message for message in best['clip_message'])
    monkeypatch.setattr(Cache, 'put', put)
    assert search.rank(files, 'blue', by='image')['clip_image'].min() > 0.99


def test_a_part_of_a_colour_that_is_replaced_while_it_is_read(pipeline, tmp_path, monkeypatch):
    files = [tmp_path / f'{name}.fits' for name in 'rgb']
    rng = np.random.default_rng(1)
    for file in files:
        fits.PrimaryHDU(rng.normal(100, 5, (64, 64)).astype('f4')).writeto(file)
    source = colour(*map(str, files))
    read, calls = render.plane, []

    def reading(path, **options):
        calls.append(path)
        found = read(path, **options)
        if len(calls) == 3:  # the first of them is old by now
            data = rng.normal(100, 5, (64, 64)).astype('f4')
            fits.PrimaryHDU(data).writeto(files[0], overwrite=True)
        return found

    monkeypatch.setattr(render, 'plane', reading)
    keys = {}
    assert pipeline.embed([source], {}, n_workers=1, keys=keys) == {}
    assert keys == {source: image_key(source)}
    assert len(calls) == 6


# ---- settings ----------------------------------------------------------------------------


@pytest.fixture
def cube(tmp_path):
    """Three planes with a bright half each: below, above, and to the left."""
    data = np.random.default_rng(0).normal(10, 1, (3, 400, 400)).astype('f4')
    data[0, :200] += 500
    data[1, 200:] += 500
    data[2, :, :200] += 500
    file = tmp_path / 'cube.fits'
    fits.PrimaryHDU(data).writeto(file)
    return file


class Recorded(ColourEncoder):
    """Keeps what the model is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def encode_images(self, pixels):
        self.seen += list(pixels)
        return super().encode_images(pixels)


@pytest.fixture
def search(tmp_path):
    return ClipSearch(encoder=Recorded(), cache_dir=tmp_path / 'cache')


def bright(image):
    """Which halves are bright: below, above, left, right."""
    grey = np.asarray(image.convert('L'), float)
    height, width = (n // 2 for n in grey.shape)
    halves = grey[height:], grey[:height], grey[:, :width], grey[:, width:]
    return [bool(half.mean() > grey.mean() + 20) for half in halves]


def opened(card):
    return Image.open(io.BytesIO(card.jpeg))


PLANES = {'middle': 1, 0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize('plane', PLANES)
def test_the_plane_of_a_cube_is_a_setting(search, cube, plane):
    expected = [i == PLANES[plane] for i in range(3)] + [False]
    with conf.set_temp('plane', plane):
        best = search.rank(cube, 'red', show_progress=False)
        assert bright(search.get_images(cube)[0]) == expected
    assert best.meta['clip']['plane'] == plane
    assert bright(Image.fromarray(search.session.encoder().seen[0])) == expected
    # What the model has seen is shown, whatever the setting is by now.
    assert bright(search.get_images(best)[0]) == expected
    assert bright(opened(search.gallery(best).cards[0])) == expected
    assert bright(opened(search.gallery(cube).cards[0])) == [False, True, False, False]


def test_planes_do_not_share_vectors_or_thumbnails(search, cube):
    tables = {}
    for plane in (0, 2, 'middle', 'peak', 'sum'):
        with conf.set_temp('plane', plane):
            tables[plane] = search.rank(cube, 'red', show_progress=False)
            search.rank(cube, 'green', show_progress=False)
    assert search.session.encoder().n_images == 5
    assert search.cache_info()['vectors'] == search.cache_info()['thumbnails'] == 5
    shown = {plane: search.gallery(table).cards[0].jpeg for plane, table in tables.items()}
    assert len(set(shown.values())) == 5
    again = search.refine(tables['sum'], 'blue')
    assert again['clip_rank'][0] == 1
    assert again.meta['clip']['plane'] == 'sum'
    assert search.session.encoder().n_images == 5
    assert search.clear_cache() == 5
    assert search.cache_info()['thumbnails'] == 0


def test_a_plane_in_a_file_of_anyone(search, cube):
    best = search.rank(cube, 'red', show_progress=False)
    for plane in ('bogus', -1, None, [1], {}, True, 1.5, '9' * 5000):
        best.meta['clip']['plane'] = plane
        assert bright(search.get_images(best)[0]) == [False, True, False, False]


@pytest.mark.parametrize('form', ['FITS', 'JPEG', 'PNG', 'array'])
def test_a_thumbnail_does_not_change_what_the_model_sees(search, tmp_path, form):
    rng = np.random.default_rng(3)
    data = rng.normal(100, 5, (900, 1100)).astype('f4')
    data[300:420, 500:600] += 300
    if form == 'array':
        source = data
    elif form == 'FITS':
        source = tmp_path / 'a.fits'
        fits.PrimaryHDU(data).writeto(source)
    else:
        source = tmp_path / f'a.{form.lower()}'
        Image.fromarray(np.clip(data / 2, 0, 255).astype(np.uint8)).save(source, form)
    encoder, shown = search.session.encoder(), {}
    for size in (32, 256, 800):
        with conf.set_temp('thumbnail_size', size):
            search.rank(source, 'red', cache=False, show_progress=False)
            best = search.rank(source, 'red', show_progress=False)
            shown[size] = opened(search.gallery(best).cards[0])
        search.clear_cache()
    assert len(encoder.seen) == 6
    assert all(np.array_equal(pixels, encoder.seen[0]) for pixels in encoder.seen)
    assert [max(image.size) for image in shown.values()] == [32, 256, 800]


def test_thumbnails_of_another_size_are_made_anew(search, tmp_path):
    image = Image.new('RGB', (300, 200), 'red')
    image.paste('black', (0, 0, 100, 100))
    image.save(tmp_path / 'a.png')
    best = search.rank(tmp_path / 'a.png', 'red', show_progress=False)
    for size in (64, 256, 100):
        with conf.set_temp('thumbnail_size', size):
            assert opened(search.gallery(best).cards[0]).width == size
    assert search.session.encoder().n_images == 1, 'of the same embedding'
