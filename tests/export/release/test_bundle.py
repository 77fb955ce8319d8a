"""A bundle made here is one that the product opens, trusts and ranks with."""

import gzip
import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search.exceptions import BundleError
from astroclip_search.models.background import normalise
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import open_encoder
from export.data.pairs import Pair
from export.evaluation import background as background_module
from export.evaluation.evaluate import evaluate, fit_weights
from export.evaluation.shipped import Shipped
from export.release import bundle as module
from export.release.bundle import main as make_bundle
from export.sky import KINDS, names


@pytest.fixture(scope='module', autouse=True)
def few_scenes():
    """Rendering is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background_module, 'SCENES', 1)
        yield


@pytest.fixture(scope='module')
def made(checkpoint, towers, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bundle')
    words = folder / 'rows.csv.gz'
    with gzip.open(words, 'wt') as file:
        file.write('target_name,obs_title\nM-16,Pillars\nM-16,Pillars\n"A, B",\n')
    make_bundle([str(checkpoint), str(towers), '--out', str(folder / 'model'),
                 '--real', str(manifest), '--words', str(words)])
    return folder / 'model'


def test_the_product_reproduces_the_golden_vectors(made):
    bundle = open_bundle(str(made))
    encoder = open_encoder(bundle, device='cpu', n_threads=1)
    with np.load(made / 'golden.npz') as golden:
        texts = [str(text) for text in golden['texts']]
        pairs = ((encoder.encode_images(golden['pixels']), golden['image_embeds'], 0.99),
                 (encoder.encode_text(texts), golden['text_embeds'], 0.97),
                 (encoder.encode_metadata(texts), golden['sentence_embeds'], 0.97))
    for got, wanted, least in pairs:
        assert (got * wanted).sum(1).min() > least
    assert bundle.context_length == 64
    assert bundle.prompt_templates == module.PROMPT_TEMPLATES
    assert bundle.logit_scale == pytest.approx(30, abs=1)  # where training begins


def test_background_holds_images_and_distinct_metadata(made):
    background = open_bundle(str(made)).background
    assert background.image.shape == (len(KINDS) + 40, 384)
    assert background.metadata.shape == (2, 384)
    assert background.image.dtype == np.float32
    with np.load(made / 'background.npz') as stored:
        assert stored['image'].dtype == stored['labels'].dtype == stored['words'].dtype == np.int8


def test_reference_images_that_show_what_is_asked_are_left_out(made):
    bundle = open_bundle(str(made))
    shipped = Shipped(made)
    background = bundle.background
    assert background.label.shape == (len(KINDS) + 40,)
    assert len(background.labels) == len(KINDS) + 2  # the manifest has two labels of its own
    assert -1 < background.related < 1
    found = np.isnan(background.cosines(shipped.texts(['spiral galaxy', 'globular cluster'])))
    for column, kind in enumerate(('spiral', 'globular_cluster')):
        assert found[KINDS.index(kind), column]
        assert not found[KINDS.index('plot'), column]


def test_what_means_the_same_is_more_alike_than_other_kinds():
    rng = np.random.default_rng(1)
    kinds = [normalise(np.eye(50)[kind] + 0.02 * rng.normal(size=(4, 50))) for kind in range(50)]
    cosine = background_module.related(kinds)
    assert 0 < cosine < 0.5
    others = np.concatenate([kinds[0] @ vectors.mean(0) for vectors in kinds[1:]])
    assert (others >= cosine).mean() < 0.1


def test_what_a_real_image_shows():
    shown = background_module.what_is_shown
    named = Pair('file', 'test', labels=('planetary_nebula', 'some other_thing'))
    assert 'planetary nebula' in shown(named)
    assert 'some other thing' in shown(named)
    assert shown(Pair('file', 'test')) == ()
    assert shown(Pair('file', 'test', kind='comet')) == names('comet')


def test_every_file_is_listed_and_a_changed_one_refused(made, tmp_path):
    description = json.loads((made / 'astroclip.json').read_text(encoding='utf-8'))
    present = {path.relative_to(made).as_posix() for path in made.rglob('*') if path.is_file()}
    assert set(description['files']) == present - {'astroclip.json'}
    for name in present:
        target = tmp_path / 'copy' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((made / name).read_bytes())
    (tmp_path / 'copy' / 'README.md').write_text('another card', encoding='utf-8')
    with pytest.raises(BundleError, match='sha256'):
        open_bundle(str(tmp_path / 'copy'))


def test_the_card_says_what_was_done(made):
    card = (made / 'README.md').read_text(encoding='utf-8')
    assert card.startswith('---\n')
    # 4 steps of 32 on frozen features, then 2 of 12 for each of two seeds.
    assert '176 views in 8 steps' in card
    assert 'tf_efficientnet_lite0 from ImageNet weights' in card
    assert 'Nothing yet' in card
    assert 'not fitted' in card


def test_a_bundle_that_is_too_large_is_an_error(checkpoint, towers, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'LIMIT', 1_000_000)
    with pytest.raises(ValueError, match='more than 1000000'):
        module.bundle(checkpoint, towers, tmp_path)


def test_evaluation_stands_beside_chance_and_baseline(made, shards, config, manifest, checkpoint,
                                                      towers, tmp_path):
    queries = tmp_path / 'configs' / 'queries.toml'
    queries.parent.mkdir()
    queries.write_text('[test]\ngalaxy = ["a galaxy", "elliptical"]\n'
                       'spectrum = ["a spectrum", "spectrum"]\n', encoding='utf-8')
    result = evaluate(made, sky=[shards], validation=[shards], real=str(manifest), towers=towers,
                      config=config, training_scenes=168, queries=queries)
    tables = {table['title']: table for table in result['metrics']['tables']}
    assert set(tables) == {'Synthetic scenes never trained on', 'Phrases never trained on',
                           'What eight bits cost', 'What eight bits cost on real images',
                           'Real images: test', 'Picture and words: rows of test', 'Query by query'}
    scenes = {row[0]: row[1:] for row in tables['Synthetic scenes never trained on']['rows']}
    assert scenes['classical baseline'][0] > 0.9  # it has seen these very scenes
    assert scenes['random'][0] == pytest.approx(1 / len(KINDS))
    real = {row[0]: row[1:] for row in tables['Real images: test']['rows']}
    assert real['classical, taught these classes'][0] > 0.9  # disks and stripes
    exact, shipped = tables['What eight bits cost']['rows']
    assert exact[1:5] == pytest.approx([1, 1, 1, 1], abs=1e-5)
    assert 0.98 < min(shipped[1:5]) < 1
    name, wanted, got, lost, verdict = tables['What eight bits cost on real images']['rows'][0]
    assert (name, lost) == ('test', wanted - got)
    assert verdict == ('kept' if lost <= 0.005 else 'lost')
    assert got == pytest.approx(real['this model'][1])
    words = {row[0]: row[1:] for row in tables['Picture and words: rows of test']['rows']}
    assert words['words'][1] > 0.9  # the titles of these rows name the class
    assert words['both'][1] >= words['words'][1]
    assert result['ranking']['text_weight'] == 1

    metrics = tmp_path / 'metrics.json'
    result['classify'] = {'temperature': 2.5, 'fitted': 'here'}
    metrics.write_text(json.dumps(result), encoding='utf-8')
    make_bundle([str(checkpoint), str(towers), '--out', str(tmp_path / 'final'),
                 '--metrics', str(metrics)])
    bundle = open_bundle(str(tmp_path / 'final'))
    assert bundle.ranking_weights == (result['ranking']['image_weight'], 1.0)
    assert bundle.words_above == result['ranking']['text_above'] == 1.5
    assert bundle.temperature == 2.5
    assert 'max(z(words) - 1.5, 0)' in (tmp_path / 'final' / 'README.md').read_text('utf-8')
    assert '| classical baseline |' in (tmp_path / 'final' / 'README.md').read_text('utf-8')


def test_weights_follow_what_helps():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 6)) < 0.2
    words = truth + rng.normal(0, 1, truth.shape)
    noise = rng.normal(0, 1, truth.shape)
    assert fit_weights(noise, words, truth)[0] < 0.3
    assert fit_weights(truth + noise, words, truth)[0] > 0.5
    # Other rows and queries count as much together.
    also = truth + noise, rng.normal(0, 1, truth.shape), truth
    assert fit_weights(noise, words, truth, also=also)[0] > fit_weights(noise, words, truth)[0]
