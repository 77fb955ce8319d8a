"""The whole way: proposals, pictures, summaries, a model, its bundle, its metrics, a ranking."""

import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
pytest.importorskip('astroquery', reason='this step needs the run-time dependencies')

from export.example import run


def test_from_nothing_to_a_ranking(tmp_path, capfd):
    ranked = run(tmp_path, 'spiral galaxies with open arms')
    report = json.loads((tmp_path / 'hst' / 'report.json').read_text(encoding='utf-8'))
    assert report['proposals'] == 50
    assert len(ranked) == report['parts']['test']['pictures'] > 0
    assert set(ranked['clip_status']) == {'OK'}
    assert np.ptp(np.asarray(ranked['clip_image'])) > 1e-3  # it tells pictures apart
    assert ranked.meta['clip']['model'] == json.loads(
        (tmp_path / 'bundle' / 'astroclip.json').read_text(encoding='utf-8'))['name']
    assert (tmp_path / 'summaries' / 'summaries.jsonl').read_text('utf-8').count('\n') == 50
    assert json.loads((tmp_path / 'metrics.json').read_text(encoding='utf-8'))
    log = (tmp_path / 'run' / 'log.jsonl').read_text(encoding='utf-8')
    assert all(line['gradient'] > 0 for line in map(json.loads, log.splitlines())
               if 'gradient' in line)
    printed = capfd.readouterr().out
    for step in ('hst', 'summarise', 'shards', 'finetune', 'to-onnx', 'retrieval'):
        assert f'export {step}' in printed
