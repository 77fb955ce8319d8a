"""A model of others gets references of an archive by one command, and its scores mean something."""

import hashlib
import json
import re

import numpy as np
import onnx
import pytest
from huggingface_hub import constants
from PIL import Image

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search import ClipSearchClass
from astroclip_search.diagnostics import selftest
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder
from export.evaluation.evaluate import ABOVE
from export.release import calibrate as module
from export.release.calibrate import calibrate, choose_templates
from export.release.calibrate import main as run
from tests import tiny
from tests.export.hub_server import COMMIT, hub
from tests.loopback.hub import contents


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Few scenes, texts of which the model knows the words, no cache of the user, no hub."""
    monkeypatch.setattr(module, 'KINDS', ['spiral', 'comet'])
    monkeypatch.setattr(module, 'FEWEST_TEXTS', 3)
    monkeypatch.setattr(module, '_TEXTS', ('red', 'a green galaxy', 'blue'))
    monkeypatch.setattr('astroclip_search.diagnostics._SECONDS', 0)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    yield
    open_bundle.cache_clear()


@pytest.fixture
def model(tmp_path):
    """A model as others publish it: towers, no list of files, a card."""
    path = tiny.write_bundle(tmp_path / 'model', background=False)
    (path / 'astroclip.json').unlink()
    (path / 'README.md').write_text('---\nlicense: mit\n---\n# Colours\n', encoding='utf-8')
    return path


def write_pictures(folder, n, *, seed):
    """Pictures whose mean colours are drawn at random, each a little uneven."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    colours = rng.uniform(20, 235, (n, 3))
    for i, colour in enumerate(colours):
        pixels = np.clip(colour + rng.normal(0, 5, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:03d}.png')
    return colours


@pytest.fixture
def archive(tmp_path):
    write_pictures(tmp_path / 'archive', 40, seed=0)
    return tmp_path / 'archive'


def hashes(folder):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob('*') if path.is_file()}


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.NothingStandsOutWarning')
def test_scores_mean_something(model, archive, tmp_path, capsys):
    before = hashes(model)
    out = tmp_path / 'bundle'
    assert run([str(model), '--archive', str(archive), '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert '40 reference images (0 with a label), 0 reference metadata' in said
    assert 'pictures alone' in said
    assert f"ClipSearch.model = '{out}'" in said
    assert hashes(model) == before
    assert not out.with_name('bundle.part').exists()
    assert selftest(str(out), device='cpu')['ok']
    info = json.loads((out / 'astroclip.json').read_text(encoding='utf-8'))
    assert info['files'] == {name: digest for name, digest in hashes(out).items()
                             if name != 'astroclip.json'}
    assert (info['name'], info['licence'], info['embedding_dim']) == ('model', 'mit', 3)
    card = (out / 'README.md').read_text(encoding='utf-8')
    assert card.startswith('---\nlicense: mit\n---\n# Colours\n\n## Calibration\n')

    write_pictures(tmp_path / 'other', 60, seed=1)
    search = ClipSearchClass(model=str(model), device='cpu', cache_dir=tmp_path / 'cache')
    plain = search.rank(tmp_path / 'other', 'red')
    search.model = str(out)
    ranked = search.rank(tmp_path / 'other', 'red')
    assert plain['clip_false_alarm'].mask.all()
    assert list(ranked['filename']) == list(plain['filename'])
    rates = np.asarray(ranked['clip_false_alarm'], float)
    assert (np.diff(rates) >= 0).all()
    # Of unrelated images drawn alike, half are at or below one half: give or take four errors.
    assert abs((rates <= 0.5).mean() - 0.5) < 4 * np.sqrt(0.25 / 60 + 0.25 / 40)


def test_labels_are_left_out_and_weigh(model, archive, tmp_path):
    lines = []
    for i in range(40):
        colour = ('red', 'green')[i % 2]
        Image.fromarray(np.uint8(np.random.default_rng(i).normal(
            (200, 40, 40) if colour == 'red' else (40, 200, 40), 5, (16, 16, 3)))).save(
                archive / f'{i:03d}.png')
        lines.append(json.dumps({
            'id': str(i), 'source': 'first' if i < 20 else 'second', 'file': f'{i:03d}.png',
            'title': 'a', 'obs_title': ('red', 'green', 'blue')[i % 3], 'labels': [colour]}))
    (archive / 'manifest.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    info = calibrate(model, archive, tmp_path / 'bundle')
    used = info['calibration']
    assert (used['images'], used['labelled'], used['metadata']) == (40, 40, 3)
    assert used['archives'] == ['first', 'second']
    assert used['templates_judged_by'] == 'labels of the archive'
    assert 'mAP 1.000, pictures alone 1.000, metadata alone 0.' in info['ranking']['fitted']
    background = open_bundle(str(tmp_path / 'bundle')).background
    assert background.source.tolist() == [1] * 20 + [2] * 20
    assert background.metadata.shape == (3, 5)
    assert background.label.tolist() == [0, 1] * 20
    assert len(background.labels) == 2


def test_metadata_that_tell_nothing_get_a_guess(model, archive, tmp_path):
    rows = [f'{i:03d}.png,{("red", "green", "blue")[i % 3]},a galaxy' for i in range(40)]
    (archive / 'rows.csv').write_text('filename,target_name,obs_title\n' + '\n'.join(rows))
    info = calibrate(model, archive, tmp_path / 'bundle', licence='MIT')
    assert info['licence'] == 'MIT'
    assert info['ranking'] == module.GUESS
    assert info['ranking']['text_above'] == ABOVE
    assert info['calibration']['metadata'] == 3
    bundle = open_bundle(str(tmp_path / 'bundle'))
    assert bundle.ranking_weights == (1.0, 0.5)


def test_an_interrupted_run_goes_on(model, archive, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, 'references', interrupt)
        with pytest.raises(KeyboardInterrupt):
            calibrate(model, archive, tmp_path / 'bundle')
    assert not (tmp_path / 'bundle').exists()
    counted = []
    embed = Encoder.encode_images
    monkeypatch.setattr(Encoder, 'encode_images', lambda encoder, pixels: (
        counted.append(len(pixels)), embed(encoder, pixels))[1])
    monkeypatch.setattr(module, '_check', lambda part: None)
    assert calibrate(model, archive, tmp_path / 'bundle')['calibration']['images'] == 40
    assert sum(counted) == 4 + 4 + 2 * module.SCENES  # golden ones, and scenes


def test_files_of_other_vectors_are_left_out(model, archive, tmp_path):
    for suffix in ('_quantized', '_fp16'):
        tiny.write_vision_tower(model, suffix=suffix)
        tiny.write_text_tower(model, suffix=suffix)
    file = model / 'onnx' / 'vision_model_fp16.onnx'
    tower = onnx.load(file)
    weight = next(tensor for tensor in tower.graph.initializer if tensor.name == 'weight')
    weight.CopyFrom(onnx.numpy_helper.from_array(-np.eye(3, dtype=np.float32), 'weight'))
    onnx.save(tower, file)
    info = calibrate(model, archive, tmp_path / 'bundle')
    left = {path.name for path in (tmp_path / 'bundle' / 'onnx').iterdir()}
    assert left == {f'{tower}_model{suffix}.onnx' for tower in ('vision', 'text')
                    for suffix in ('', '_quantized')}
    assert info['calibration']['left_out'] == ['onnx/vision_model_fp16.onnx',
                                               'onnx/text_model_fp16.onnx']


def test_one_precision_alone(model, archive, tmp_path):
    tiny.write_vision_tower(model, suffix='_quantized', kind='uint8')
    tiny.write_text_tower(model, suffix='_quantized')
    (model / 'onnx' / 'vision_model.onnx_data').write_bytes(b'weights')
    calibrate(model, archive, tmp_path / 'bundle', variant='fp32')
    assert sorted(path.name for path in (tmp_path / 'bundle' / 'onnx').iterdir()) == [
        'text_model.onnx', 'vision_model.onnx', 'vision_model.onnx_data']


def test_a_model_of_the_hub(model, archive, tmp_path, monkeypatch):
    with hub(contents(model)) as server:
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setattr(constants, 'ENDPOINT', server.url)
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                            server.url + '/{repo_id}/resolve/{revision}/{filename}')
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        info = calibrate('owner/name', archive, tmp_path / 'bundle')
    assert (info['name'], info['version'], info['licence']) == ('owner/name', COMMIT[:12], 'mit')
    assert open_bundle(str(tmp_path / 'bundle')).background.image.shape == (40, 3)


@pytest.mark.parametrize(('change', 'reason'), [
    ('no archive', 'there is no archive'), ('no images', 'There is no image in'),
    ('few images', '3 images that can be read: 20 are needed'),
    ('text', r'has no onnx/text_model\*.onnx.*to-onnx --from ID'),
    ('dimensions', 'its vectors have 3 dimensions, not 2'),
    ('unknown', 'nor could it be had from the Hugging Face hub'),
    ('there', 'bundle is there already')])
def test_what_cannot_be(change, reason, model, archive, tmp_path, capsys):
    name, out = str(model), tmp_path / 'bundle'
    if change == 'no archive':
        archive = tmp_path / 'none'
    elif change in ('no images', 'few images'):
        for path in list(archive.iterdir())[3 * (change == 'few images'):]:
            path.unlink()
    elif change == 'text':
        (model / 'onnx' / 'text_model.onnx').unlink()
    elif change == 'dimensions':
        tiny.write_vision_tower(model, dim=2)
    elif change == 'unknown':
        name = 'owner/none'
    else:
        out.mkdir()
    assert run([name, '--archive', str(archive), '--out', str(out)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(reason, said), said


class Reader:
    """Reads a phrase well in one sentence only."""

    def __init__(self, best):
        self.best = best

    def texts(self, phrases, *, templates):
        rng = np.random.default_rng(len(templates[0]))
        noise = 0.01 if tuple(templates) == self.best else 3
        vectors = np.eye(len(phrases)) + noise * rng.normal(size=(len(phrases),) * 2)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize('best', [('an astronomical image of {}',), ('{}',)])
def test_templates_that_pay(best):
    phrases = [str(i) for i in range(20)]
    judged = [(np.eye(20), phrases, np.eye(20, dtype=bool))]
    assert choose_templates(Reader(best), judged) == best
