"""A false-alarm rate that is not honest is found out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search.models.background import Background, normalise
from export.__main__ import main
from export.evaluation import calibration as module
from export.evaluation.calibration import (
    THRESHOLDS,
    by_phrase,
    calibration,
    false_alarms,
    finds,
    passed,
    verdict,
)

PHRASE = np.eye(1, 16, dtype=np.float32)


class Model:
    """Images are random vectors, all moved towards every phrase by the same amount."""

    def __init__(self, lean=0.0, references=4000):
        self._lean, self._rng = lean, np.random.default_rng(5)
        vectors = None if references == 0 else normalise(self._rng.normal(size=(references, 16)))
        self.bundle = SimpleNamespace(background=Background(vectors), logit_scale=30.0)

    def images(self, images):
        return normalise(self._rng.normal(size=(len(images), 16)) + self._lean * PHRASE)

    def texts(self, texts):
        return np.repeat(PHRASE, len(texts), axis=0)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Each table in which a find is looked for costs 50 ms, and there are 52 queries."""
    monkeypatch.setattr(module, 'TABLES', ())


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Shards of 3000 scenes; nobody looks at their pixels."""
    folder = tmp_path_factory.mktemp('scenes')
    kinds = np.arange(3000) % len(module.KINDS)
    np.savez(folder / 'sky-0.npz', images=np.zeros((3000, 1, 1, 3), np.uint8), kind=kinds,
             attributes=np.full(3000, '{}'))
    return folder


@pytest.mark.parametrize(('lean', 'expected'), [(0.0, 'honest'), (0.6, 'too many'),
                                                (-0.6, 'too few')])
def test_a_source_unlike_the_background_is_found_out(scenes, monkeypatch, lean, expected):
    monkeypatch.setattr(module, 'Model', lambda path: Model(lean))
    result = calibration('model', sky=[scenes])
    table = result['tables'][0]
    [row] = table['rows']
    assert result['background'] == 4000
    assert len(row) == len(table['columns'])
    assert row[0] == 'synthetic scenes'
    assert row[-2] == expected
    assert float(row[-1]) == pytest.approx(float(row[4].split()[0]), abs=0.01)  # none shows it
    assert result['tables'][3]['rows'] == []


def test_without_reference_images_there_is_nothing_to_measure(scenes, monkeypatch):
    monkeypatch.setattr(module, 'Model', lambda path: Model(references=0))
    with pytest.raises(ValueError, match='no reference images'):
        calibration('model', sky=[scenes])


def test_the_command_prints_the_table_and_writes_it(scenes, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, 'Model', lambda path: Model())
    assert main(['calibration', 'model', '--sky', str(scenes),
                 '--out', str(tmp_path / 'rates.json')]) == 0
    assert 'honest' in capsys.readouterr().out
    assert json.loads((tmp_path / 'rates.json').read_text('utf-8'))['background'] == 4000


def test_tables_and_temperature_are_added_to_what_evaluate_wrote(monkeypatch, tmp_path):
    tables = [{'title': 'Rates', 'text': '', 'columns': ['a'], 'rows': [[2]]}]
    monkeypatch.setattr(module, 'calibration', lambda *args, **options: {
        'tables': tables, 'classify': {'temperature': 2.0}})
    measured = tmp_path / 'metrics.json'
    other = {'title': 'Other'}
    measured.write_text(json.dumps({'ranking': {}, 'metrics': {
        'tables': [{'title': 'Rates'}, other], 'broken': []}}))
    assert main(['calibration', 'model', '--metrics', str(measured)]) == 0
    assert json.loads(measured.read_text('utf-8')) == {
        'ranking': {}, 'classify': {'temperature': 2.0},
        'metrics': {'tables': [other, *tables], 'broken': []}}


@pytest.mark.parametrize(('kind', 'queries'), [('spectrum', 2), ('spiral', 0)])
def test_real_images_are_judged_with_and_without_their_own_source(manifest, config, monkeypatch,
                                                                  kind, queries):
    """
    All images of the manifest are reference images: none is left without the source. If both
    classes are of one kind, no image is unrelated to any query.
    """
    monkeypatch.setattr(module, 'REFERENCES', ('test',))
    monkeypatch.setattr(module.tomllib, 'loads', lambda text: {'test': {
        'galaxy': ['a galaxy', 'spiral'], 'spectrum': ['a spectrum', kind]}})
    monkeypatch.setattr(module, 'FEWEST', 2)
    model = Model(references=40)
    model.images = lambda images: model.bundle.background.image[:len(images)]
    monkeypatch.setattr(module, 'Model', lambda path: model)
    result = calibration('model', real=manifest, config=config)
    own, foreign, _, found, probabilities = result['tables']
    [row] = own['rows']
    assert row[0] == 'test'
    assert (0 < row[1] < 40) == (queries > 0)  # the held-out ones
    assert row[2] == queries
    assert foreign['rows'] == []
    assert found['rows'] == []
    assert bool(probabilities['rows']) == bool(result['classify']) == (queries > 0)


def test_an_image_is_not_compared_with_itself():
    images = normalise([[3, 1], [2, 1], [1, 1], [0, 1]])
    phrase = normalise([[1, 0]])
    np.testing.assert_allclose(false_alarms(images, phrase, Background(images))[:, 0],
                               [1/4, 2/4, 3/4, 1], atol=1e-6)
    other = normalise([[1, 2]])
    np.testing.assert_allclose(false_alarms(other, phrase, Background(images)), [[4/5]], atol=1e-6)


def test_images_that_show_it_and_rare_queries_do_not_count():
    rates = np.full((100, 2), 0.5)
    rates[:50, 0] = 0.005
    unrelated = np.zeros((100, 2), bool)
    unrelated[30:, 0] = True
    unrelated[:module.FEWEST - 1, 1] = True
    mean, low, high, queries = passed(rates, unrelated)
    assert queries == 1
    np.testing.assert_allclose(mean, [0, 20 / 70, 20 / 70, 20 / 70])
    assert (low[1:] < mean[1:]).all()
    assert (mean[1:] < high[1:]).all()
    mean, *_, queries = passed(rates, np.zeros((100, 2), bool))
    assert queries == 0
    assert verdict(mean) == 'unknown'


@pytest.mark.parametrize(('rate', 'expected'), [(0.0069, 'too few'), (0.0071, 'honest'),
                                                (0.0129, 'honest'), (0.0131, 'too many')])
def test_one_per_cent_means_one_per_cent(rate, expected):
    mean = np.full(len(THRESHOLDS), 0.5)
    mean[1] = rate
    assert verdict(mean) == expected


def test_reference_images_that_show_it_do_not_count():
    images = normalise([[3, 1], [2, 1], [1, 1], [0, 1]])
    background = Background(images, labels=normalise([[1, 0]]), label=np.array([0, -1, -1, -1]),
                            related=0.9)
    phrase = normalise([[1, 0], [1, 2]])
    rates = false_alarms(images, phrase, background)
    np.testing.assert_allclose(rates[:, 0], [1/4, 1/3, 2/3, 1], atol=1e-6)
    np.testing.assert_allclose(rates[:, 1], false_alarms(images, phrase, Background(images))[:, 1])


def test_finds_are_in_tables_that_show_it():
    size, rng = 100, np.random.default_rng(2)
    images, background = normalise(rng.normal(size=(500, 16))), Background(
        normalise(rng.normal(size=(600, 16))))
    phrases = np.eye(3, 16, dtype=np.float32)
    showing = np.arange(500)[:, None] % 10 == np.arange(3)
    for i, phrase in enumerate(phrases):
        images[showing[:, i]] = normalise(images[showing[:, i]] + 3 * phrase)
    alone, among = finds(images, phrases, background, ~showing, showing, size)
    assert alone <= 0.35
    assert among > 0.9
    nothing = np.zeros_like(showing)
    assert np.isnan(finds(images, phrases, background, ~showing, nothing, size)[1])
    assert np.isnan(finds(images, phrases, background, nothing, nothing, size)[0])


def test_an_archive_that_looks_more_like_a_phrase_is_told_phrase_by_phrase(scenes, monkeypatch):
    model = Model()
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(900, 16))
    source = np.arange(900) % 3
    vectors[source == 2] += 2 * PHRASE
    model.bundle.background = Background(normalise(vectors), source=source)
    monkeypatch.setattr(module, 'Model', lambda path: model)
    table = calibration('model', sky=[scenes])['tables'][2]
    assert table['columns'] == ['query', 'tried', 'synthetic scenes']
    assert all(len(row) == 3 and row[1].endswith('*') for row in table['rows'])
    assert '100% have a star' in table['text']
    assert by_phrase(np.full((30, 1), 0.005), np.ones((30, 1), bool))[0].tolist() == [0, 1, 1, 1]
