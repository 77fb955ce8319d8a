"""What the evaluation asks, compares with, notices and writes."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.data.labels import expand
from export.data.pairs import Pair
from export.evaluation import evaluate as module
from export.evaluation.collection import Cache, stamp
from export.evaluation.evaluate import control, evaluate, fit_weights, main, verdict
from export.evaluation.report import dots, markdown
from export.evaluation.tasks import EVERYWHERE, QUERIES, read_queries, tasks_of
from export.evaluation.words import bm25, terms
from export.release.bundle import main as make_bundle
from export.sky import KINDS

EXPORT = Path(module.__file__).parents[1]


@pytest.fixture(scope='module')
def made(checkpoint, towers, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bundle')
    make_bundle([str(checkpoint), str(towers), '--out', str(folder), '--real', str(manifest)])
    return folder


def strings(content):
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from strings(part)


def plain(text):
    words = re.findall(r'[a-z0-9]+', text.lower())
    return ' '.join(word for word in words if word not in ('a', 'an', 'the'))


def test_no_paraphrase_was_trained_on():
    files = [EXPORT / 'sky' / 'phrases.toml', EXPORT / 'configs' / 'labels.toml',
             EXPORT / 'data' / 'phrases.toml', *(EXPORT / 'sky' / 'synonyms').glob('*.toml')]
    trained = {plain(text) for path in files
               for pattern in strings(tomllib.loads(path.read_text(encoding='utf-8')))
               for text in expand(pattern)}
    assert len(trained) > 6000
    paraphrases = read_queries()[1]['paraphrases']
    assert trained.isdisjoint(plain(text) for texts in paraphrases.values() for text in texts)


def test_every_query_has_three_paraphrases_that_differ_from_it():
    sources, sections = read_queries()
    queries = {entry[0] for table in sources.values() for entry in table.values()}
    queries |= set(sections['everywhere'])
    assert queries == set(sections['paraphrases'])
    for query, texts in sections['paraphrases'].items():
        assert len({plain(text) for text in [query, *texts]}) >= 4, query


def test_queries_name_kinds_and_labels_that_exist():
    sources, sections = read_queries(QUERIES)
    kinds = {kind for table in sources.values() for entry in table.values() for kind in entry[1:]}
    assert kinds <= set(KINDS)
    labels = [label for labels in sections['everywhere'].values() for label in labels]
    assert {label.split('/')[0] for label in labels} <= set(sources)


def pairs_of(*rows):
    return [Pair(Path(f'{i}.png'), source, labels=tuple(labels))
            for i, (source, labels) in enumerate(rows)]


def test_sources_are_asked_separately_and_together():
    pairs = pairs_of(*[('a', ['spiral'])] * 4, *[('a', ['people'])] * 4, *[('a', [])] * 3,
                     *[('b', ['S'])] * 3, *[('b', ['other'])] * 5)
    queries = ({'a': {'spiral': ['spiral galaxy', 'spiral'], 'people': ['people', 'people']}},
               {'everywhere': {'a galaxy with arms': ['a/spiral', 'b/S']},
                'not_sky': {'labels': ['a/people']}, 'paraphrases': {}})
    first, second, together = tasks_of(pairs, np.arange(19), queries)
    assert (first.source, first.queries) == ('a', ['spiral galaxy', 'people'])
    assert first.positive.sum(0).tolist() == [4, 4]
    assert len(first.rows) == 11  # pictures without a label are among those searched
    assert first.kinds == [[KINDS.index('spiral')], [KINDS.index('people')]]
    assert second.queries == ['S', 'other']  # by their own names
    assert together.name == EVERYWHERE
    assert together.rows.tolist() == [0, 1, 2, 3, *range(11, 19)]  # neither people nor unlabelled
    assert together.positive[:, 0].tolist() == [True] * 4 + [True] * 3 + [False] * 5
    assert together.kinds == [[KINDS.index('spiral')]]


def test_classes_of_too_few_or_all_images_are_not_asked_for():
    pairs = pairs_of(*[('a', ['rare', 'every'])] * 2, *[('a', ['every'])] * 8)
    assert tasks_of(pairs, np.arange(10), ({}, {'everywhere': {}})) == []


def test_bm25_is_its_formula():
    texts = ['a spiral galaxy', 'galaxies galaxies and dust in a long title', 'NGC 1300', '']
    found = bm25(texts, ['Spiral Galaxies', 'comet', 'ngc'])
    assert found.shape == (4, 3)
    mean = (3 + 8 + 2 + 0) / 4

    def term(count, length, present):
        rarity = np.log(1 + (4 - present + 0.5) / (present + 0.5))
        return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))

    assert found[0, 0] == pytest.approx(term(1, 3, 1) + term(1, 3, 2))
    assert found[1, 0] == pytest.approx(term(2, 8, 2))
    assert (found[:, 1] == 0).all()
    assert found[2, 2] == pytest.approx(term(1, 2, 1))
    assert (found[3] == 0).all()


def test_terms_have_one_number():
    assert terms('Nebulae, Galaxies: stars_and M-31') == ['nebulae', 'galaxy', 'star', 'and', 'm',
                                                          '31']
    assert terms('star cluster') == terms('Stars clusters')


def test_the_control_is_at_chance_and_says_so_when_it_is_not(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.random((200, 4)) < 0.2
    values, faults = control(truth + rng.normal(size=truth.shape), truth)
    assert faults == []
    assert values[0] == pytest.approx(0.5, abs=0.02)

    exact = module.measure
    # As if rows were sorted by class, and equal scores left in their order.
    monkeypatch.setattr(module, 'measure', lambda scores, positive: exact(
        scores + 1e-6 * positive, positive))
    assert 'equal scores' in control(np.zeros(truth.shape), truth)[1][-1]
    monkeypatch.setattr(module, 'measure', lambda scores, positive: exact(
        scores + positive, positive))
    assert 'permuted' in control(rng.normal(size=truth.shape), truth)[1][0]


def test_verdicts():
    assert verdict(20, 0.9, 0.8, 0.3) == 'works'
    assert verdict(20, 0.9, 0.8, 0.2) == 'weak'
    assert verdict(20, 0.9, 0.7, 1) == 'weak'
    assert verdict(20, 0.8, 0.76, 1) == 'weak'
    assert verdict(20, 0.59, 0.55, 1) == 'fails'
    assert verdict(20, 0.7, 0.45, 1) == 'fails'
    assert verdict(4, 0.99, 0.98, 1) == 'few'


def test_a_weight_for_a_query_is_fitted_without_it():
    rng = np.random.default_rng(0)
    truth = rng.random((400, 6)) < 0.2
    image, words = rng.normal(size=(2, *truth.shape))
    words[:, 1:] += 2 * truth[:, 1:]
    image[:, 0] += 3 * truth[:, 0]  # only the first query gains from the picture
    left_out = fit_weights(image, words, truth)[1]
    assert left_out.shape == (6,)
    assert left_out[0] == left_out.min() < 0.2


def test_the_cache_computes_what_has_changed_and_nothing_else(tmp_path):
    path, file = tmp_path / 'cache.npz', tmp_path / 'image.png'
    file.write_bytes(b'one')
    made = []

    def get(files):
        cache = Cache(path)
        found = cache.get('numbers', stamp(3, files=files),
                          lambda: made.append(1) or np.full(2, len(made)))
        cache.save()
        return found.tolist()

    assert get([file]) == get([file]) == [1, 1]
    file.write_bytes(b'another')
    assert get([file]) == [2, 2]
    assert Cache().get('numbers', 'key', lambda: np.ones(1)).tolist() == [1]


def test_plots_are_images_whatever_the_labels():
    root = ElementTree.fromstring(dots('A & B', [('<x>', 0.5, 0.4, 0.6), ('y', 1.0, 0.9, 1.0)],
                               chance=0.5))
    texts = [text.text for text in root.iter('{http://www.w3.org/2000/svg}text')]
    assert {'A & B', '<x>', 'y'} <= set(texts)
    assert len(list(root.iter('{http://www.w3.org/2000/svg}circle'))) == 2


def test_a_foreign_manifest_is_judged_whole_without_shards(made, manifest, tmp_path, capsys):
    out = tmp_path / 'metrics.json'
    arguments = [str(made), '--real', str(manifest), '--all-rows', '--draws', '20',
                 '--out', str(out)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    first = out.read_text(encoding='utf-8')
    metrics = json.loads(first)['metrics']
    assert metrics['sources']['test']['images'] == 40
    assert 'judged' not in metrics  # nobody has judged these
    assert [row['query'] for row in metrics['queries']] == ['galaxy', 'spectrum']
    assert set(metrics['sources']['test']['methods']) == {
        'this model', 'this model, one query minus the other', 'words', 'BM25', 'MiniLM', 'both',
        'picture and words, weight chosen on other queries',
        'picture and words, weights of this bundle'}
    value, low, high = metrics['sources']['test']['methods']['BM25']['AUC']
    assert 0.9 < low <= value <= high <= 1  # the titles of these rows name the class
    assert (tmp_path / 'metrics.md').read_text(encoding='utf-8') in text
    assert '## Query by query' in text
    for name in ('metrics-methods.svg', 'metrics-queries.svg'):
        ElementTree.parse(tmp_path / name)
    assert main(arguments) == 0  # from the cache
    assert out.read_text(encoding='utf-8') == first


@pytest.fixture
def two_sources(manifest, tmp_path):
    """The images as those of two sources, and a query of both; folder and file of queries."""
    lines = [json.loads(line) for line in (manifest / 'manifest.jsonl').read_text().splitlines()]
    for i, row in enumerate(lines):
        row['source'] = 'near' if i < 20 else 'far'
        shutil.copy(manifest / row['file'], tmp_path)
    (tmp_path / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    queries = tmp_path / 'queries.toml'
    queries.write_text(
        '[near]\ngalaxy = ["a galaxy", "elliptical"]\n[far]\ngalaxy = ["a galaxy", "elliptical"]\n'
        '[everywhere]\n"a galaxy" = ["near/galaxy", "far/galaxy"]\n'
        '[paraphrases]\n"a galaxy" = ["a galaxy", "an island universe"]\n', encoding='utf-8')
    return tmp_path, queries


def test_paraphrases_floors_and_all_sources(made, two_sources, config, monkeypatch):
    folder, queries = two_sources
    monkeypatch.setattr(module, 'FLOORS', ((EVERYWHERE, 'this model', 'AUC', 0.0),
                                           (EVERYWHERE, 'this model', 'AUC', 1.01),
                                           ('absent', 'this model', 'AUC', 0.5)))
    result = evaluate(made, real=folder, config=config, queries=queries, all_rows=True, draws=20)
    tables = {table['title']: table for table in result['metrics']['tables']}
    floors = tables['What had to be reached']['rows']
    assert [row[-1] for row in floors[:2]] == ['reached', 'not reached']
    assert len(floors) == 2 + 3
    same, other = result['metrics']['paraphrases'][:2]
    assert same['AUC'] == same['plain']  # the query itself
    rows = {row[0]: row for row in tables['Other words for the same']['rows']}
    assert rows['near'][1:4] == [1, 2, pytest.approx(same['plain'], abs=1e-4)]
    assert rows['near'][5] == pytest.approx((other['AUC'] - other['plain']) / 2, abs=1e-4)
    assert result['metrics']['sources'][EVERYWHERE]['images'] == 40


def test_judgements_other_bundles_seeds_and_fits(made, two_sources, tmp_path, capsys):
    folder, queries = two_sources
    said = tmp_path / 'said.csv'
    said.write_text('query,source,id,shows\na galaxy,near,01,1\na galaxy,far,21,0\n', 'utf-8')
    out = tmp_path / 'metrics.json'
    assert main([str(made), '--real', str(folder), '--all-rows', '--queries', str(queries),
                 '--draws', '5', '--out', str(out), '--judgements', str(said),
                 '--also', str(made), '--seeds', str(made), '--fits']) == 0
    text = capsys.readouterr().out
    metrics = json.loads(out.read_text(encoding='utf-8'))['metrics']
    judged, name = metrics['judged'], made.name
    assert set(judged) == {'near', 'far', EVERYWHERE, 'mean of the sources'}
    assert set(judged['near']) == {'this model', f'{name} (1)', f'{name} (2)', 'BM25'}
    assert judged['near']['this model'] == judged['near'][f'{name} (1)']
    for place, changed in (('near', True), ('far', False)):
        labels, with_judgements = judged[place]['this model']['AP'].values()
        assert labels == metrics['sources'][place]['methods']['this model']['AP'][0]
        assert (labels != with_judgements[0]) == changed
    assert 'near 1 beside 10 labels, far 0 beside 10 labels' in text
    for title in ('By labels and by judgements', 'Over seeds', 'A survey is not an object',
                  'The same, as FITS'):
        assert f'## {title}\n' in text
    assert str(tmp_path) not in text


def test_a_model_of_others_has_no_weights_but_is_measured(made, manifest, tmp_path):
    foreign = tmp_path / 'foreign'
    shutil.copytree(made, foreign)
    for name in ('astroclip.json', 'background.npz', 'golden.npz', 'README.md'):
        (foreign / name).unlink()
    result = evaluate(foreign, real=manifest, all_rows=True, draws=5)
    assert 'ranking' not in result
    methods = set(result['metrics']['sources']['test']['methods'])
    assert {'this model', 'BM25', 'MiniLM'} <= methods
    assert 'both' not in methods


def test_a_broken_evaluation_is_told_and_fails(made, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'control', lambda scores, positive: (np.ones(8), ['all is one']))
    out = tmp_path / 'metrics.json'
    assert main([str(made), '--real', str(manifest), '--all-rows', '--draws', '5',
                 '--out', str(out)]) == 1
    result = json.loads(out.read_text(encoding='utf-8'))
    assert result['metrics']['broken'] == ['test: all is one']
    assert '**The evaluation is broken: test: all is one.**' in markdown(result)
