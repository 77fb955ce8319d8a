"""Pairs are read where they lie, and views show nothing but the picture."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.finetuning.captioned import Pairs, Views, passage, view, whole
from tests.export.finetuning.squares import COLOURS, PREPROCESSING


def test_pairs_are_read_where_they_lie(data):
    pairs = Pairs(data / 'train')
    assert len(pairs) == 108
    assert pairs.captions[3] == 'green squares, 1. Colours.'
    assert len(set(pairs.groups)) == 36
    assert pairs.groups[3] == pairs.groups[5] != pairs.groups[6]
    image = pairs.picture(3)
    assert image.mode == 'RGB'
    assert image.size == (24, 20)
    assert np.asarray(image).mean((0, 1)) == pytest.approx(COLOURS['green'], abs=5)


def test_equal_captions_are_a_group_and_other_files_no_pairs(tmp_path):
    stream = io.BytesIO()
    Image.new('RGB', (4, 4)).save(stream, 'JPEG')
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        for name, content in (('x/0.jpg', stream.getvalue()), ('x/0.txt', b' a comet\n'),
                              ('x/1.txt', b'a comet'), ('x/1.JPG', stream.getvalue()),
                              ('y/1.txt', b'no picture'), ('y/2.jpg', stream.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    pairs = Pairs(tmp_path)
    assert pairs.captions == ['a comet', 'a comet']
    assert len(set(pairs.groups)) == 1
    assert pairs.picture(1).size == (4, 4)


def test_no_pairs_are_said(tmp_path):
    with pytest.raises(ValueError, match='no shards with pairs'):
        Pairs(tmp_path)


def stream_of(data, **settings):
    return Views(Pairs(data / 'train'), PREPROCESSING,
                 {'crop': (0.2, 1.0), 'shuffled': False, 'captions': 'whole', **settings},
                 batch_size=9, seed=4)


def test_views_follow_from_seed_and_position(data):
    first, second = stream_of(data), stream_of(data)
    for position in (250, 3):  # whatever was read before
        assert torch.equal(first[position][0], second[position][0])
        assert first[position][1:] == second[position][1:]
    assert not torch.equal(first[3][0], first[4][0])


def test_an_epoch_shows_every_pair_once_and_none_resembles_another(data):
    views = stream_of(data)
    epochs = [[views._pair(position) for position in range(start, start + 108)]
              for start in (0, 108)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(108))
    assert epochs[0] != epochs[1]


def test_shuffling_exchanges_captions_within_a_batch(data):
    plain, shuffled = stream_of(data), stream_of(data, shuffled=True)
    for start in (0, 9):
        true = [plain[position][1:] for position in range(start, start + 9)]
        found = [shuffled[position][1:] for position in range(start, start + 9)]
        assert sorted(found) == sorted(true)
        assert found != true
    assert torch.equal(plain[5][0], shuffled[5][0])


@given(seed=st.integers(0, 2**32), low=st.floats(0.05, 1), width=st.integers(2, 60),
       height=st.integers(2, 60))
def test_views_have_nothing_that_is_not_in_the_picture(seed, low, width, height):
    image = Image.new('RGB', (width, height), (40, 90, 160))
    pixels = view(image, PREPROCESSING, np.random.default_rng(seed), crop=(low, 1.0))
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert (pixels == torch.tensor([40, 90, 160])[:, None, None]).all()


def test_a_view_of_everything_is_the_picture_turned():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    square = whole(image, PREPROCESSING)
    possible = {turned.contiguous().numpy().tobytes() for k in range(4)
                for turned in (square.rot90(k, (1, 2)), square.rot90(k, (1, 2)).flip(2))}
    seen = {view(image, PREPROCESSING, np.random.default_rng(seed), crop=(1, 1))
            .contiguous().numpy().tobytes() for seed in range(60)}
    assert seen == possible


def test_views_show_as_much_as_was_asked_for():
    rows, columns = np.mgrid[:240, :240]
    image = Image.fromarray(np.stack([rows, columns, rows], -1).astype(np.uint8))
    for seed in range(20):
        pixels = view(image, PREPROCESSING, np.random.default_rng(seed), crop=(0.25, 0.25))
        sides = [np.ptp(pixels[i].numpy().astype(float)) / 240 * 16 / 15 for i in (0, 1)]
        assert np.prod(sides) == pytest.approx(0.25, abs=0.04)
        assert 0.7 < sides[0] / sides[1] < 1.43


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_passages_are_runs_of_whole_sentences(lengths, seed):
    sentences = [' '.join([f's{i}'] * length) + '.' for i, length in enumerate(lengths)]
    text = ' '.join(sentences)
    found = passage(text, np.random.default_rng(seed))
    assert f' {found} ' in f' {text} '
    assert found.endswith('.')
    assert len(found.split()) <= max(77, *lengths)
