"""Figures of any runs, and logs of three trainers."""

import json
import sys

import numpy as np
import pytest

from export.evaluation.plots import main, read_log


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    return path


def result(seed):
    rng = np.random.default_rng(seed)
    curve = np.sort(rng.random(30)).tolist()
    return {'figures': {'pairs': 3000, 'cuts': list(range(1, 3000, 100)), 'dot product': curve,
                        'cosine': curve},
            'cosines': {'edges': np.linspace(-1, 1, 41).tolist(), 'AUC': 0.7,
                        'true': rng.integers(90, size=40).tolist(), 'shuffled': [0] * 39 + [4],
                        'true mean': 0.4, 'true std': 0.1, 'shuffled mean': 0.0,
                        'shuffled std': 0.2}}


@pytest.fixture
def made(tmp_path):
    for name in ('base', 'ours'):
        (tmp_path / f'{name}.json').write_text(json.dumps(result(len(name) + ord(name[0]))))
        lines(tmp_path / name / 'log.jsonl', {'step': 0, 'validation': {'loss': 4.6, 'top10': 0.1}},
              {'step': 5, 'loss': 4.0}, {'step': 9, 'validation': {'loss': 3.9, 'top10': 0.4}})
    return tmp_path


def test_logs_of_our_trainers(tmp_path):
    path = lines(tmp_path / 'run' / 'log.jsonl',
                 {'step': 1, 'loss': 4.5, 'validation': {'loss': 4.6, 'top10': 0.1}},
                 {'step': 3, 'loss': 4.1, 'name': 'words'}, {'step': 3, 'loss': 4.0})
    unit, series = read_log(path.parent)
    assert unit == 'step'
    assert series == {'loss': ([1, 3], [4.5, 4.0]), 'validation/loss': ([1], [4.6]),
                      'validation/top10': ([1], [0.1])}


def test_a_log_of_open_clip(tmp_path):
    lines(tmp_path / 'run' / 'checkpoints' / 'results.jsonl',
          {'text_to_image_R@10': 0.2, 'clip_val_loss': 3.0, 'epoch': 2, 'num_samples': 90})
    unit, series = read_log(tmp_path / 'run')
    assert unit == 'epoch'
    assert series['text_to_image_R@10'] == ([2], [0.2])


@pytest.mark.parametrize('text', ['', 'not JSON\n', '[1]\n', '{"loss": 1}\n'])
def test_what_is_no_log_is_refused(tmp_path, text):
    path = tmp_path / 'log.jsonl'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'is empty|line 1: no line of a training log'):
        read_log(path)


@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_all_figures_are_drawn(made, ending, capsys):
    pytest.importorskip('matplotlib', reason='figures need Matplotlib: install the extra [plot]')
    status = main(['--logs', f'fine-tuned={made / "ours" / "log.jsonl"}', str(made / 'base'),
                   '--models', f'base={made / "base.json"}', f'ours={made / "ours.json"}',
                   '--ablations', str(made / 'ours.json'), '--format', ending,
                   '--out', str(made / 'figures')])
    assert status == 0
    names = {'training', *(f'{group}-{kind}' for group in ('models', 'ablations')
                           for kind in ('dot', 'cosine', 'histograms'))}
    files = {path.name: path.read_bytes() for path in (made / 'figures').iterdir()}
    assert set(files) == {f'{name}.{ending}' for name in names}
    assert set(capsys.readouterr().out.split()) == {str(made / 'figures' / name) for name in files}
    assert len(set(files.values())) == len(files)


def test_the_curves_are_those_of_the_results(made):
    pytest.importorskip('matplotlib', reason='figures need Matplotlib: install the extra [plot]')
    from export.evaluation import plots

    drawn = {}
    kept = plots._save
    try:
        plots._save = lambda figure, path: drawn.setdefault(path, figure)
        plots.curves({'ours': result(1)}, 'curves')
        plots.histograms({'ours': result(1)}, 'bars')
    finally:
        plots._save = kept
    chance, ours = drawn['curves'].axes[0].get_lines()
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 1]
    assert list(ours.get_ydata()) == [*result(1)['figures']['dot product'], 1]
    assert ours.get_xdata()[:2] == pytest.approx([1 / 3000, 101 / 3000])
    assert ours.get_label() == 'ours (N = 3000)'
    heights = [patch.get_data().values.sum() for patch in drawn['bars'].axes[0].patches]
    assert heights == pytest.approx([1] * 4)


def test_without_matplotlib_it_says_what_to_install(made, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert main(['--models', str(made / 'ours.json'), '--out', str(made / 'figures')]) == 1
    assert 'astroclip-search[plot]' in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'nothing to draw'),
    (['--logs', 'base', 'epochs'], 'draw them apart'),
    (['--logs', 'base', 'other'], 'in common'),
    (['--logs', 'base', 'base/log.jsonl'], 'one name'),
    (['--models', 'other/log.jsonl'], 'figures'),
    (['--models', 'absent.json'], 'absent.json'),
])
def test_what_cannot_be_drawn(made, monkeypatch, capsys, arguments, message):
    pytest.importorskip('matplotlib', reason='figures need Matplotlib: install the extra [plot]')
    lines(made / 'epochs' / 'results.jsonl', {'epoch': 1, 'clip_val_loss': 3.0})
    lines(made / 'other' / 'log.jsonl', {'step': 1, 'loss': 3.0})
    monkeypatch.chdir(made)
    with pytest.raises(SystemExit):
        main([*arguments, '--out', 'figures'])
    assert message in capsys.readouterr().err
