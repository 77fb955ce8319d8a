"""Fine-tuning: towers of a few weights learn the colours of squares."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import open_clip
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import load_file

from export import finetune as module
from export import orderings, pretrained
from export.__main__ import main as run_step
from export.adapters import add_low_rank, merge_low_rank
from export.captioned import Pairs, Views, passage, view, whole
from export.contrastive import Contrastive, backward
from export.finetune import finetune, prepare
from export.matching import match, normalise
from export.recipe import check, read_recipe

CONFIGS = ('paperclip_summaries', 'paperclip_abstracts', 'paperclip_head', 'paperclip_scratch',
           'paperclip_shuffled', 'paperclip_l14', 'paperclip_lr1e-6', 'paperclip_cosine',
           'galaxyclip')
COLOURS = {'red': (200, 30, 30), 'green': (30, 200, 30), 'blue': (30, 30, 200),
           'yellow': (200, 200, 30), 'white': (230, 230, 230), 'black': (10, 10, 10)}
ARCHITECTURE = {
    'embed_dim': 16,
    'vision_cfg': {'image_size': 16, 'patch_size': 8, 'width': 32, 'head_width': 16, 'layers': 1},
    'text_cfg': {'context_length': 12, 'vocab_size': 49408, 'width': 32, 'heads': 2, 'layers': 1},
}
PREPROCESSING = {'size': 16, 'interpolation': 'bicubic', 'mean': (0.5, 0.5, 0.5),
                 'std': (0.5, 0.5, 0.5)}


def write_shards(folder, *, proposals, first, pictures=3):
    """Write proposals on a colour each, as `export shards` does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(first)
    with tarfile.open(folder / '000000.tar', 'w') as tar:
        for number in range(first, first + proposals):
            name, colour = list(COLOURS.items())[number % len(COLOURS)]
            for i in range(pictures):
                pixels = np.clip(colour + rng.normal(0, 15, (20, 24, 3)), 0, 255).astype(np.uint8)
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, 'PNG')
                about = {'caption_group': f'g{number}', 'id': i}
                for ending, content in (('png', stream.getvalue()),
                                        ('txt', f'{name} squares, {number}. Colours.'.encode()),
                                        ('json', json.dumps(about).encode())):
                    member = tarfile.TarInfo(f'p{number}.v1_{i}.{ending}')
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pairs')
    write_shards(folder / 'train', proposals=36, first=0)
    write_shards(folder / 'validation', proposals=36, first=100)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(name='paperclip_summaries', model=(), data=(), **train):
    """Return a configuration of four steps of the smallest towers."""
    recipe = read_recipe(name, tiny=True)
    recipe['model'].update({'architecture': ARCHITECTURE, **dict(model)})
    recipe['data'].update(dict(data))
    recipe['train']['micro_batch'] = min(4, recipe['train']['micro_batch'])
    recipe['train'].update({'steps': 4, 'batch_size': 8, 'warmup': 1, 'checkpoint_every': 1,
                            'learning_rate': 3e-3, **train})
    return recipe


def weights(folder):
    return load_file(folder / 'open_clip_model.safetensors')


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **tolerance)


@pytest.fixture(scope='module')
def learned(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('learned')
    recipe = small(steps=60, batch_size=32, log_every=20, validate_every=30, checkpoint_every=60)
    return folder, finetune(recipe, data, folder)


# Pairs and views

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


# Loss

@pytest.fixture
def vectors():
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.nn.functional.normalize(torch.randn(5, 8, generator=draw), dim=1)
                 for _ in range(2))


def test_without_repeated_words_losses_are_those_of_open_clip(vectors):
    groups, scale, bias = torch.arange(5), torch.tensor(7.0), torch.tensor(-2.0)
    torch.testing.assert_close(Contrastive('softmax')(*vectors, scale, None, groups),
                               ClipLoss()(*vectors, scale))
    torch.testing.assert_close(Contrastive('sigmoid')(*vectors, scale, bias, groups),
                               SigLipLoss()(*vectors, scale, bias))
    groups = torch.zeros(5, dtype=torch.int64)
    torch.testing.assert_close(
        Contrastive('softmax', masked=False)(*vectors, scale, None, groups),
        ClipLoss()(*vectors, scale))
    with pytest.raises(ValueError, match='choose softmax or sigmoid'):
        Contrastive('triplet')


def test_words_of_the_same_proposal_are_no_wrong_answers(vectors):
    groups, scale = torch.tensor([1, 2, 1, 3, 1]), 7.0
    images, texts = (part.double().numpy() for part in vectors)
    logits = scale * images @ texts.T
    related = np.equal.outer(groups.numpy(), groups.numpy()) & ~np.eye(5, dtype=bool)
    expected = np.mean([np.log(np.exp(side)[i, ~related[i]].sum()) - side[i, i]
                        for side in (logits, logits.T) for i in range(5)])
    found = Contrastive('softmax')(*vectors, torch.tensor(scale), None, groups)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    signs = np.where(np.eye(5, dtype=bool), 1, -1)
    expected = np.log1p(np.exp(-signs * (logits - 2)))[~related].sum() / 5
    found = Contrastive('sigmoid')(*vectors, torch.tensor(scale), torch.tensor(-2.0), groups)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def batch_of(clip, data, count=8):
    pairs = Pairs(data / 'train')
    pixels = torch.stack([whole(pairs.picture(i), clip.preprocessing) for i in range(count)])
    return (normalise(pixels, clip.preprocessing, torch.device('cpu')),
            clip.tokenizer(pairs.captions[:count]), torch.from_numpy(pairs.groups[:count]))


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(data, kind):
    found = []
    for size in (8, 3):
        clip = prepare(small(model={'architecture': {**ARCHITECTURE, 'init_logit_bias': -1}}))
        parts = list(zip(*(part.split(size) for part in batch_of(clip, data)), strict=True))
        value = backward(clip.model, parts, Contrastive(kind))
        gradients = {name: p.grad for name, p in clip.model.named_parameters()
                     if p.grad is not None}
        found.append({**gradients, 'loss': value})
    assert found[0]['visual.conv1.weight'].abs().max() > 0
    assert found[0]['logit_scale'] != 0
    assert_same(*found, rtol=1e-4, atol=1e-6)


# Models

def test_models_are_kept_in_the_form_of_open_clip(data, tmp_path):
    clip = prepare(small())
    pretrained.save(clip, tmp_path / 'a')
    assert {file.name for file in (tmp_path / 'a').iterdir()} == {
        'open_clip_config.json', 'open_clip_model.safetensors'}
    config = json.loads((tmp_path / 'a' / 'open_clip_config.json').read_text())
    assert config['preprocess_cfg']['resize_mode'] == 'squash'  # the whole picture
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'a'}")
    assert_same(model.state_dict(), clip.model.state_dict())
    picture = Pairs(data / 'train').picture(0)
    mine = normalise(whole(picture, clip.preprocessing), clip.preprocessing, torch.device('cpu'))
    torch.testing.assert_close(preprocess(picture), mine, atol=1e-5, rtol=0)
    assert_same(pretrained.load(tmp_path / 'a').model.state_dict(), clip.model.state_dict())
    torch.manual_seed(8)
    other = pretrained.load(tmp_path / 'a', weights=False).model.state_dict()
    assert not torch.equal(other['visual.proj'], clip.model.visual.proj)


def test_the_files_of_a_tokenizer_go_along(tmp_path):
    pretrained.save(prepare(small()), tmp_path / 'a')
    (tmp_path / 'a' / 'tokenizer.json').write_text('{}')
    pretrained.save(pretrained.load(tmp_path / 'a'), tmp_path / 'b')
    assert (tmp_path / 'b' / 'tokenizer.json').read_text() == '{}'


def test_pickles_are_not_opened(tmp_path):
    pretrained.save(prepare(small()), tmp_path)
    (tmp_path / 'open_clip_model.safetensors').rename(tmp_path / 'open_clip_pytorch_model.bin')
    with pytest.raises(ValueError, match='safetensors only'):
        pretrained.load(tmp_path)


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(ValueError, match=r'open_clip_config\.json'):
        pretrained.load(tmp_path)


def test_low_rank_changes_begin_at_nothing_and_are_merged(data):
    clip = prepare(small())
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    pixels, tokens, _ = batch_of(clip, data)
    with torch.no_grad():
        plain = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    assert add_low_rank(clip.model, rank=2, alpha=4) == 8  # four matrices in each block
    learned = [name for name, p in clip.model.named_parameters() if p.requires_grad]
    assert 'logit_scale' in learned
    assert sum('up' in name for name in learned) == 8
    assert len(learned) == 17
    with torch.no_grad():
        same = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
        for name, p in clip.model.named_parameters():
            if name.endswith('up'):
                p.add_(torch.ones_like(p))
        other = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    torch.testing.assert_close(plain, same)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(plain, other, strict=True))
    merge_low_rank(clip.model)
    assert clip.model.state_dict().keys() == before.keys()
    assert torch.equal(clip.model.token_embedding.weight, before['token_embedding.weight'])
    with torch.no_grad():
        merged = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    torch.testing.assert_close(other, merged)


def test_low_rank_needs_matrices():
    with pytest.raises(ValueError, match='no matrix'):
        add_low_rank(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), rank=1, alpha=1)


def test_interpolation():
    base = {'w': torch.tensor([1.0, 2.0]), 'n': torch.tensor(3)}
    tuned = {'w': torch.tensor([3.0, 0.0]), 'n': torch.tensor(5)}
    found = pretrained.interpolate(base, tuned, 0.25)
    assert found['w'].tolist() == [1.5, 1.5]
    assert found['n'] == 5
    with pytest.raises(ValueError, match='two architectures'):
        pretrained.interpolate(base, {'w': torch.zeros(3), 'n': tuned['n']}, 0.5)


def test_scores_of_known_vectors():
    # Twenty proposals of five pictures; vectors say the proposal, and nothing else.
    groups = np.arange(100) // 5
    perfect = torch.eye(20)[torch.from_numpy(groups)]
    numbers = match(perfect, perfect, groups, scale=20.0)
    assert numbers['top10'] == numbers['top10_captions'] == 1
    assert numbers['loss'] < 1e-6  # other pictures of the proposal are not wrong
    blind = torch.ones(100, 4) / 2
    numbers = match(blind, blind, groups, scale=20.0)
    assert numbers['top10'] == numbers['top10_captions'] == 0  # ties are in the worst order
    assert numbers['loss'] == pytest.approx(np.log(96))


# Runs

def test_a_run_learns_and_is_read_by_open_clip(learned, data):
    folder, numbers = learned
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [0, 20, 30, 40, 60, 60, 60]
    assert rows[-2]['validation'].keys() == numbers.keys() == {'loss', 'top10', 'top10_captions'}
    assert rows[1]['learning_rate'] == pytest.approx(3e-3)
    assert rows[0]['validation']['top10'] < 0.3
    assert numbers['top10'] > 0.4
    assert numbers['top10_captions'] > 0.4
    about = json.loads((folder / 'finetune.json').read_text())
    assert about['pairs'] == {'train': 108, 'validation': 108}
    assert about['validation'] == numbers
    assert about['step'] in (30, 60)
    model = open_clip.create_model(f'local-dir:{folder}')
    assert_same(model.state_dict(), weights(folder))
    assert not list(folder.glob('*.part'))


def test_shuffled_pairs_stay_at_chance(data, tmp_path):
    recipe = small('paperclip_shuffled', steps=30, batch_size=32)
    numbers = finetune(recipe, data, tmp_path)
    assert numbers['top10'] < 0.2
    assert numbers['top10_captions'] < 0.25


@pytest.mark.parametrize('name', CONFIGS)
def test_every_configuration_runs(name, data, tmp_path):
    recipe = small(name, steps=2, validate_every=1)
    finetune(recipe, data, tmp_path)
    state = pretrained.load(tmp_path).model.state_dict()
    base = prepare(recipe).model.state_dict()
    changed = {key for key, value in base.items() if not torch.equal(value, state[key])}
    if name == 'paperclip_head':
        assert all('_head' in key or key.endswith('logit_scale') for key in changed)
        with pytest.raises((TypeError, ValueError), match='heads'):
            open_clip.create_model(f'local-dir:{tmp_path}')
    else:
        assert {'visual.conv1.weight', 'token_embedding.weight', 'logit_scale'} <= changed


def test_configurations_differ_from_the_paper_in_what_they_are_about():
    main = read_recipe('paperclip_summaries')
    assert main['train']['learning_rate'] == 1e-5
    assert (main['train']['batch_size'], main['train']['steps'], main['train']['warmup']) == (
        32, 20_000, 2000)
    about = {'paperclip_abstracts': {'captions'}, 'paperclip_head': {'method'},
             'paperclip_scratch': {'random'}, 'paperclip_shuffled': {'shuffled', 'keep'},
             'paperclip_l14': {'base', 'micro_batch', 'checkpointing'},
             'paperclip_lr1e-6': {'learning_rate'}, 'paperclip_cosine': {'schedule'}}
    for name, wanted in about.items():
        recipe = read_recipe(name)
        assert wanted == {key for section in recipe for key, value in recipe[section].items()
                          if value != main[section][key]}, name
    ratio = (read_recipe('paperclip_lr1e-6', tiny=True)['train']['learning_rate']
             / read_recipe('paperclip_summaries', tiny=True)['train']['learning_rate'])
    assert ratio == pytest.approx(0.1)


@pytest.mark.parametrize(('model', 'train'), [
    ({'method': 'lora', 'rank': 2}, {'average_decay': 0.9, 'keep': 'last'}),
    ({'method': 'head'}, {'micro_batch': 4}),
    ({}, {'average_decay': 0.5, 'schedule': 'cosine', 'validate_every': 2}),
])
def test_a_killed_run_ends_with_the_same_weights(model, train, data, tmp_path, monkeypatch):
    recipe = small(model=model, **train)
    finetune(recipe, data, tmp_path / 'whole')
    advance = module._Run.advance

    def killed(run, *arguments):
        if run.step == 3:
            raise SystemExit
        return advance(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, 'advance', killed)
        with pytest.raises(SystemExit):
            finetune(recipe, data, tmp_path / 'killed')
    assert not (tmp_path / 'killed' / 'finetune.json').exists()
    finetune(recipe, data, tmp_path / 'killed', resume=True)
    assert_same(weights(tmp_path / 'whole'), weights(tmp_path / 'killed'), rtol=0, atol=0)
    steps = [[json.loads(line)['step'] for line in
              (tmp_path / name / 'log.jsonl').read_text().splitlines()]
             for name in ('whole', 'killed')]
    assert steps[0] == steps[1]


def test_a_signal_ends_the_step_first(data, tmp_path, monkeypatch, capsys):
    advance = module._Run.advance

    def told(run, *arguments):
        if run.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(run, *arguments)

    recipe = small(checkpoint_every=100)
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(module._Run, 'advance', told)
        patch.setattr(module, 'read_recipe', lambda *_, **__: recipe)
        arguments = ['finetune', '--config', 'x', '--data', str(data), '--out', str(tmp_path)]
        assert run_step(arguments) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert '--resume' in capsys.readouterr().err
    state = torch.load(tmp_path / 'checkpoint.pt', weights_only=True)
    assert json.loads(state['info'])['step'] == 2


def test_resuming_is_of_the_same_run(data, learned, tmp_path):
    recipe = small(steps=1)
    finetune(recipe, data, tmp_path)
    with pytest.raises(FileExistsError, match='--resume'):
        finetune(recipe, data, tmp_path)
    with pytest.raises(ValueError, match='learning_rate, weight_decay'):
        finetune(small(steps=1, learning_rate=1e-4, weight_decay=0.5), data, tmp_path, resume=True)
    finetune(small(steps=2), data, tmp_path, resume=True)
    assert json.loads((tmp_path / 'finetune.json').read_text())['recipe']['train']['steps'] == 2


def test_half_the_way_from_the_base(data, tmp_path):
    base = prepare(small())
    pretrained.save(base, tmp_path / 'base')
    start = {'base': str(tmp_path / 'base'), 'architecture': {}}
    finetune(small(model=start, keep='last'), data, tmp_path / 'run')
    tuned = weights(tmp_path / 'run')
    finetune(small(model=start, keep='last', wise=0.5), data, tmp_path / 'run', resume=True)
    half, begin = weights(tmp_path / 'run'), base.model.state_dict()
    assert not torch.equal(tuned['visual.proj'], begin['visual.proj'])
    torch.testing.assert_close(half['visual.proj'],
                               (tuned['visual.proj'] + begin['visual.proj']) / 2)


def test_other_towers_and_losses(data, tmp_path):
    siglip = {
        'embed_dim': 64, 'init_logit_bias': -10, 'custom_text': True,
        'vision_cfg': {'image_size': 32, 'timm_model_name': 'test_vit', 'timm_pool': 'map',
                       'timm_proj': 'none'},
        'text_cfg': {**ARCHITECTURE['text_cfg'], 'no_causal_mask': True, 'proj_bias': True,
                     'pool_type': 'last'},
    }
    recipe = small(model={'architecture': siglip}, loss='sigmoid', precision='bf16',
                   checkpointing=True)
    numbers = finetune(recipe, data, tmp_path / 'siglip')
    assert np.isfinite(numbers['loss'])
    assert weights(tmp_path / 'siglip')['logit_bias'] != -10
    mobile = {
        'embed_dim': 16, 'custom_text': True, 'text_cfg': ARCHITECTURE['text_cfg'],
        'vision_cfg': {'image_size': 32, 'timm_model_name': 'test_byobnet', 'timm_pool': 'avg',
                       'timm_proj': None},
    }
    for method in ('full', 'lora', 'head'):
        recipe = small(model={'architecture': mobile, 'method': method}, steps=1)
        finetune(recipe, data, tmp_path / method)
        statistics = {key.removeprefix('model.'): value for key, value in
                      weights(tmp_path / method).items() if 'running_mean' in key}
        fresh = prepare(small(model={'architecture': mobile})).model.state_dict()
        frozen = all(torch.equal(value, fresh[key]) for key, value in statistics.items())
        assert frozen == (method != 'full')


def test_two_processes_do_what_one_does(data, tmp_path):
    recipe = tmp_path / 'small.toml'
    text = json.dumps  # strings and lists of TOML are those of JSON
    lines = ['extends = "paperclip_summaries"', '[model.architecture]', 'embed_dim = 16']
    for tower in ('vision_cfg', 'text_cfg'):
        lines += [f'[model.architecture.{tower}]']
        lines += [f'{key} = {text(value)}' for key, value in ARCHITECTURE[tower].items()]
    lines += ['[train]', 'steps = 3', 'batch_size = 12', 'warmup = 1', 'learning_rate = 1e-3',
              'keep = "last"', 'precision = "fp32"', 'workers = 1', 'log_every = 1']
    recipe.write_text('\n'.join(lines))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
               '2', '-m', 'export', 'finetune', '--config', str(recipe), '--data', str(data),
               '--out', str(tmp_path / 'two'), '--micro-batch', '3']
    here = Path(module.__file__).parents[1]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(here)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    settings = read_recipe(recipe)
    settings['train']['workers'] = 0
    finetune(settings, data, tmp_path / 'one')
    logs = [[json.loads(line) for line in (tmp_path / name / 'log.jsonl').read_text().splitlines()]
            for name in ('one', 'two')]
    for key in ('loss', 'gradient'):
        numbers = [[row[key] for row in rows if key in row] for rows in logs]
        assert len(numbers[0]) == 3
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    one, two = (
        {name: value for name, value in weights(tmp_path / run).items()
         # Keys may have any bias: its gradient is nothing but rounding, which Adam scales up.
         if not name.endswith('in_proj_bias')} for run in ('one', 'two'))
    assert_same(one, two, rtol=1e-4, atol=2e-5)


def test_a_diverging_run_is_said(data, tmp_path, monkeypatch, capsys):
    recipe = small(learning_rate=1e30)
    monkeypatch.setattr(module, 'read_recipe', lambda *_, **__: recipe)
    assert run_step(['finetune', '--config', 'x', '--data', str(data), '--out',
                     str(tmp_path)]) == 1
    assert 'lower the learning rate' in capsys.readouterr().err


def test_tensorboard_where_it_is_installed(data, tmp_path, monkeypatch):
    written = {}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / 'tensorboard'
            assert purge_step == 1

        def add_scalar(self, name, number, step):
            written[name, step] = number

        def flush(self):
            pass

    fake = type(sys)('torch.utils.tensorboard')
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', fake)
    numbers = finetune(small(log_every=2), data, tmp_path)
    assert {step for name, step in written if name == 'loss'} == {2, 4}
    assert written['written/top10', 4] == numbers['top10']


@pytest.mark.parametrize(('section', 'change', 'message'), [
    ('model', {'method': 'prompt'}, 'choose from full, lora, head'),
    ('model', {'architecture': {}}, 'no model to begin with'),
    ('model', {'random': True, 'method': 'lora'}, 'choose full'),
    ('train', {'schedule': 'cosine', 'warmup': 4}, 'leaves no cosine'),
    ('train', {'batch_size': 7}, 'cannot be divided'),
    ('train', {'micro_batch': 3}, 'cannot be divided'),
    ('train', {'precision': 'fp16'}, 'choose from fp32, bf16'),
])
def test_what_cannot_be_run_is_refused(section, change, message):
    recipe = small()
    recipe[section].update(change)
    with pytest.raises(ValueError, match=message):
        check(recipe, processes=2)


@pytest.mark.parametrize('model', [{'random': True}, {'method': 'head'}])
def test_nothing_lies_between_these(model):
    with pytest.raises(ValueError, match='nothing between'):
        check(small(model=model, wise=0.5))


def test_mistakes_in_configurations_are_said(tmp_path, data, capsys):
    with pytest.raises(ValueError, match='paperclip_summaries'):
        read_recipe('paperclip')
    for text, message in (('[train]\nlearning_rat = 1', 'nothing reads learning_rat'),
                          ('[optimizer]\nname = 1', r'in \[optimizer\]'), ('train = ', r'x\.toml')):
        file = tmp_path / 'x.toml'
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_recipe(file)
    with pytest.raises(SystemExit):
        run_step(['finetune', '--config', 'galaxyclip', '--data', str(tmp_path), '--out',
                  str(tmp_path / 'out'), '--tiny'])
    assert 'no shards with pairs' in capsys.readouterr().err


# The paper's order

def test_pictures_of_made_up_proposals_share_their_words(tmp_path):
    folder = orderings.write_proposals(tmp_path, ('comet', 'spectrum'), count=12, seed=0)
    pairs = Pairs(folder / 'validation')
    assert len(pairs) == 10
    assert len(set(pairs.groups)) == len(set(pairs.captions)) == 2
    assert not set(pairs.captions) & set(Pairs(folder / 'train').captions)


def test_verdicts():
    numbers = {'base': {'top10': 0.15}, **{name: {'top10': value}
                                           for name, value in orderings.PAPER.items()}}
    assert all(orderings.verdicts(numbers).values())
    numbers['paperclip_head']['top10'] = 0.8
    assert not orderings.verdicts(numbers)['fine-tuned > head only']
    numbers['paperclip_shuffled']['top10'] = 0.3
    assert not orderings.verdicts(numbers)['shuffled = chance']
