"""The measures of PAPERCLIP on a bundle that knows three colours."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from PIL import Image

from export.__main__ import main as export
from export.data.illustrated import read_captioned
from export.data.pairs import load_pixels
from export.evaluation import plots
from export.evaluation.layout import tables
from export.evaluation.retrieval import Model, descriptions, graded, main, pairs
from export.evaluation.views import CROP, paper_views
from tests import tiny

COLOURS = {'red': (200, 20, 20), 'green': (20, 200, 20), 'blue': (20, 20, 200)}


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp('bundle') / 'tiny')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Forty images of each colour, of two proposals each, and one line without a caption."""
    folder = tmp_path_factory.mktemp('manifest')
    lines = []
    for i in range(120):
        colour = list(COLOURS)[i % 3]
        Image.new('RGB', (8 + i % 5, 8), COLOURS[colour]).save(folder / f'{i}.png')
        # The same caption to a reader.
        caption = f'a {colour} galaxy' if i < 60 else f'A {colour}, galaxy.'
        lines.append({'id': str(i), 'file': f'{i}.png', 'source': 'hst', 'caption': caption,
                      'proposal_id': 100 + i % 6, 'labels': ['spot'] if i == 0 else [],
                      'split': 'test' if i < 90 else 'train'})
    lines.append({'id': 'none', 'file': 'none.png', 'source': 'hst', 'proposal_id': 1})
    (folder / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return folder


def run(bundle, folder, out, *more):
    assert export(['retrieval', '--bundle', str(bundle), '--manifest', str(folder),
                   '--out', str(out), *more]) == 0
    return json.loads(out.read_text(encoding='utf-8'))


def test_the_manifest_as_captions_and_proposals(folder):
    data = read_captioned(folder)
    assert data.texts == ['a red galaxy', 'a green galaxy', 'a blue galaxy']
    assert data.caption.tolist() == [i % 3 for i in range(120)]
    assert data.group.tolist() == [i % 6 for i in range(120)]
    assert data.words()[119] == 'a blue galaxy'
    assert len(read_captioned(folder, split='test').ids) == 90
    assert read_captioned(folder, group='visit').group.tolist() == data.caption.tolist()
    assert read_captioned(folder, captions={'100': 'x'}).ids == [str(i) for i in range(0, 120, 6)]
    assert read_captioned(folder, held_out=np.arange(121) == 7).ids == ['7']
    with pytest.raises(ValueError, match='no image of'):
        read_captioned(folder, sources=['jwst'])


@pytest.mark.parametrize(('change', 'message'), [
    ({'file': '../a.png'}, 'outside its folder'), ({'id': '1'}, 'two images')])
def test_a_manifest_that_is_refused(tmp_path, change, message):
    row = {'id': '0', 'file': 'a.png', 'source': 'x', 'caption': 'a'}
    rows = [{**row, 'id': '1'}, {**row, **change}]
    (tmp_path / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=message):
        read_captioned(tmp_path)


def test_vectors_are_as_long_as_the_towers_make_them(bundle, folder):
    model, data = Model(bundle), read_captioned(folder)
    images = model.images([load_pixels(file) for file in data.files[:3]])
    assert images == pytest.approx(2 * np.array(list(COLOURS.values())) / 255 - 1, abs=1e-5)
    # Five tokens, of which one or two have a vector.
    texts = model.captions(['a red galaxy', 'red red galaxy'])
    assert texts == pytest.approx(np.array([[1, -1, -1], [2, -2, -2]]) / 5)
    assert np.linalg.norm(model.texts(['red']), axis=1) == pytest.approx([1])


def test_numbers_of_a_model_that_is_always_right(bundle, folder, tmp_path):
    found = run(bundle, folder, tmp_path / 'pairs.json', '--draws', '20', '--split', 'test')
    assert found['data'] == {'images': 90, 'captions': 3, 'proposals': 6}
    assert found['captions']['R@1'] == found['images']['R@1'] == [1, 1, 1]
    assert found['mean recall'] == 1
    # Thirty rows have the same caption: any of them may be first.
    assert found['formula']['R@1'][0] == pytest.approx(1 / 30)
    assert found['formula']['RA_50%'][0] == 1
    assert found['formula']['median rank'] == 15.5
    assert found['figures']['pairs'] == 90
    assert found['figures']['cosine'][0] == pytest.approx(3 / 90)  # the last row of each caption
    assert 'batches' not in found['figures']
    assert found['cosines']['AUC'] == 1
    assert sum(found['cosines']['true']) == 90
    assert found['control']['R@1'][0] < 0.5
    assert 'graded' not in found
    assert 'descriptions' not in found


def test_everything_that_can_be_asked_for(bundle, folder, tmp_path, capsys):
    relevance = tmp_path / 'relevance.csv'
    relevance.write_text('query,id,relevance\n' + ''.join(
        f'green galaxy,{i},{0.75 if i % 3 == 1 else 0.25}\n' for i in range(60)))
    judgements = tmp_path / 'judgements.csv'
    judgements.write_text('query,id,relevant\n' + ''.join(
        f'red galaxy,{i},{int(i % 3 == 0)}\n' for i in range(60)))
    out = tmp_path / 'all' / 'pairs.json'
    found = run(bundle, folder, out, '--draws', '20', '--queries', 'red galaxy', 'blue',
                '--judgements', str(judgements), '--relevance', str(relevance), '--views', '2',
                '--vocabulary', 'paperclip')
    text = capsys.readouterr().out
    batches = found['figures']['batches']
    assert batches['batches'] == 1
    assert batches['chance loss'] == pytest.approx(np.log(100))
    assert batches['top 10'] < 0.5  # thirty-odd images of a colour, and one is right
    rated, = found['graded']
    assert (rated['query'], rated['images']) == ('green galaxy', 60)
    assert rated['nDCG@10'] == pytest.approx(1)
    assert rated['relevant'] == pytest.approx((0.75 + 2 * 0.25) / 3)
    mean = ((2 ** 0.75 - 1) + 2 * (2 ** 0.25 - 1)) / 3
    assert rated['chance'] == pytest.approx(mean / (2 ** 0.75 - 1))
    picture = found['judged']['methods']['picture']
    assert [row['query'] for row in picture['queries']] == ['red galaxy', 'blue']
    assert picture['queries'][0] == {
        'query': 'red galaxy', 'P': 1, 'judged': 10, 'proposals': 2, 'relevant proposals': 2,
        'P of proposals': 2 / 6, 'judged of proposals': 6}
    assert picture['P'] == 0.5
    assert len(found['views']) == 2
    assert all(0 <= value <= 1 for view in found['views'] for value in view.values())
    for part in ('Mean recall', 'Graded relevance', 'P@10 of proposals', 'Seen as in the paper'):
        assert part in text
    assert out.with_suffix('.md').read_text(encoding='utf-8') in text
    with open(out.with_name('pairs-judgements.csv'), encoding='utf-8', newline='') as lines:
        rows = list(csv.DictReader(lines))
    assert found['judged']['to be judged'] == sum(row['relevant'] == '' for row in rows) > 0
    # What was judged is kept, so that the file can go round.
    again = run(bundle, folder, out, '--draws', '20', '--queries', 'red galaxy', 'blue',
                '--judgements', str(out.with_name('pairs-judgements.csv')))
    assert again['judged'] == found['judged']


def test_plots_beside_the_numbers(bundle, folder, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, '_save', lambda figure, path: drawn.setdefault(path.name, figure))
    pytest.importorskip('matplotlib', reason='figures need Matplotlib: install the extra [plot]')
    run(bundle, folder, tmp_path / 'pairs.json', '--draws', '5')
    assert set(drawn) == {'pairs-dot.png', 'pairs-cosine.png', 'pairs-histograms.png'}


def test_lengths_of_captions_count_in_the_figures_only():
    texts, caption = np.array([[1., 0], [3, 3]]), np.arange(120) % 2
    images = np.where(caption[:, None] == 0, [2., 0.2], [1., 2])
    found = pairs(images, texts, caption, caption, 1.0, draws=5)
    assert found['captions']['R@1'][0] == 1
    dot, cosine = (found['figures'][kind] for kind in ('dot product', 'cosine'))
    # The long caption beats the right one of half the images.
    assert dot[-1] < cosine[-1] == 1
    assert found['figures']['spread of length'] == pytest.approx(
        [np.std(pair) / np.mean(pair) for pair in (np.sqrt([4.04, 5]), np.sqrt([1, 18]))])
    assert found['control']['R@1'][0] in (0, 1)  # of two captions, the permutation may be none


def test_permuted_captions_are_at_chance():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(400, 64))
    caption = rng.integers(400, size=2000)
    caption[:400] = np.arange(400)
    found = pairs(texts[caption], texts, caption, caption // 2, 1.0, draws=5)
    assert found['captions']['R@1'][0] == 1
    assert found['control']['RA_10%'][0] == pytest.approx(0.1, abs=0.04)


def test_descriptions_by_hand():
    phrases = ['spiral galaxies', 'red', 'comet', 'ring']
    texts = ['A red spiral galaxy', 'comets', 'nothing of it', 'infrared']
    scores = np.array([[4, 1, 3, 2], [0, 1, 3, 2], [9, 9, 9, 9], [9, 9, 9, 9.]])
    found = descriptions(scores, phrases, texts)
    assert (found['images'], found['phrases']) == (2, 3)
    # Right ones of the first image are at ranks 1 and 4, of the second at 1.
    assert found['picture']['AP'] == pytest.approx(((1 + 2 / 4) / 2 + 1) / 2)
    assert found['picture']['R@1'] == found['picture']['MRR'] == 1
    assert found['chance']['AUC'] == 0.5
    assert found['commonest']['AUC'] == pytest.approx((1 / 4 * 0 + (2 * 0.75) / 2 + 2 / 3) / 2)
    assert descriptions(scores, phrases, ['none'] * 4) == {'images': 0, 'phrases': 0}


def test_ratings_of_other_images_are_an_error(bundle):
    with pytest.raises(ValueError, match="rated for 'red'"):
        graded(Model(bundle), np.eye(3), ['a', 'b', 'c'], {'red': {'z': 1.0}})


def test_tables_can_be_read(bundle, folder, tmp_path):
    found = run(bundle, folder, tmp_path / 'pairs.json', '--draws', '5')
    laid = {table['title']: table for table in tables(found)}
    assert set(laid) == {'Pairs', 'As the figures of PAPERCLIP', 'Judged'}
    assert all(len(row) == len(table['columns']) for table in laid.values()
               for row in table['rows'])
    assert '120 images, 3 captions, 6 proposals' in laid['Pairs']['text']


@pytest.mark.parametrize(('more', 'message'), [
    (['--split', 'validation'], 'no image of'), (['--judgements', 'absent.csv'], 'absent.csv')])
def test_what_is_missing_is_named(bundle, folder, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit):
        main(['--bundle', str(bundle), '--manifest', str(folder), '--out',
              str(tmp_path / 'a.json'), *more])
    assert message in capsys.readouterr().err


def test_a_view_is_a_turned_and_mirrored_part():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :, 0] = np.arange(200)
    seen = set()
    for seed in range(12):
        views = paper_views([image, image[:, ::-1]], np.random.default_rng(seed))
        assert views.shape == (2, CROP, CROP, 3)
        assert (paper_views([image], np.random.default_rng(seed)) == views[:1]).all()
        seen.update((views[..., 1].astype(int) > 250).mean((1, 2)).round(2).tolist())
    # Half of the square is padding, white: of a part of it, more or less.
    assert max(seen) - min(seen) > 0.2
