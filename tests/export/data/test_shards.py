"""Lists and shards hold the same pairs, and open_clip reads both."""

import csv
import gc
import json
import re
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('astroquery', reason='this step needs the run-time dependencies')
pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from export.__main__ import main
from export.data.split import caption_group

pytestmark = pytest.mark.usefixtures('no_retries')


def lists(folder):
    return {side: list(csv.DictReader((folder / f'{side}.csv').read_text().split('\n'),
                                      delimiter='\t'))
            for side in ('train', 'validation', 'test')}


def samples(folder):
    found = {}
    for shard in sorted(folder.glob('*.tar')):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, ending = member.name.partition('.')
                found.setdefault(key, {})[ending] = tar.extractfile(member).read()
    return found


def test_lists_and_shards_hold_the_same_pairs(step):
    step('--validation', '0.3', '--test', '0.3')
    rows = {row['id']: row for row in step.rows()}
    out = step.out / 'abstracts'
    for side, table in lists(out).items():
        shards = samples(out / side)
        assert len(table) == len(shards) == step.report()['parts'][side]['pictures'] > 0
        assert json.loads((out / side / 'sizes.json').read_text()) == {'000000.tar': len(table)}
        for line, (key, sample) in zip(table, shards.items(), strict=True):
            row = rows[key]
            assert row['split'] == side
            assert Path(line['filepath']) == (step.out / row['file']).resolve()
            assert sample['jpg'] == Path(line['filepath']).read_bytes()
            caption = f'Category: {row["category"]}. {row["caption"]}'
            assert line['title'] == sample['txt'].decode() == caption
            about = json.loads(sample['json'])
            assert about['caption_group'] == line['caption_group'] == caption_group(caption)
            assert about['proposal_id'] == line['proposal_id'] == row['proposal_id']
    # Neighbours in a shard are of different proposals as a rule.
    order = [line['proposal_id'] for line in lists(out)['train']]
    assert sum(one == two for one, two in pairwise(order)) < len(order) / 2


def test_summaries_as_captions(step, tmp_path, capsys):
    step('--proposals', '9001', '9008', '9015')
    path = tmp_path / 'summaries.jsonl'
    path.write_text(''.join(json.dumps({
        'proposal_id': number, 'objects_and_phenomena': ['disk galaxies', 'dust\tlanes'],
        'science_use_cases': ['counting "stars"'], 'model': 'm'}) + '\n' for number in
        ('9001', '9015')))
    assert main(['shards', str(step.out), '--out', str(tmp_path / 'wds'), '--summaries', str(path),
                 '--per-shard', '3']) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(counts.values()) == 8
    found = [line for table in lists(tmp_path / 'wds').values() for line in table]
    assert {line['title'] for line in found} == {
        'disk galaxies, dust\tlanes; counting "stars"'}
    # Two proposals, one caption: either is a right answer.
    assert len({line['caption_group'] for line in found}) == 1
    for side, count in counts.items():
        sizes = json.loads((tmp_path / 'wds' / side / 'sizes.json').read_text())
        assert sum(sizes.values()) == count
        assert all(size <= 3 for size in sizes.values())


def test_shards_are_written_once_and_again_when_pairs_change(step, tmp_path):
    step('--proposals', '9001', '9008', '9015')
    out = step.out / 'abstracts'
    shards = sorted(out.glob('*/*.tar'))
    before = {path: path.stat().st_mtime_ns for path in shards}
    shards[0].unlink()
    step('--proposals', '9001', '9008', '9015')
    after = {path: path.stat().st_mtime_ns for path in sorted(out.glob('*/*.tar'))}
    assert after.keys() == before.keys()
    assert [path for path in after if after[path] != before[path]] == shards[:1]
    step('--test', '0.9', '--validation', '0')
    assert sorted(out.glob('train/*.tar')) == [] or samples(out / 'train').keys() == {
        row['id'] for row in step.rows() if row['split'] == 'train'}
    assert samples(out / 'test').keys() == {
        row['id'] for row in step.rows() if row['split'] == 'test'}


@pytest.mark.parametrize(('line', 'message'), [
    ('{"proposal_id": "9001"}', 'line 1: no summary'), ('nothing', 'line 1: no summary'),
    ('{"proposal_id": "1", "objects_and_phenomena": [], "science_use_cases": []}',
     'no picture of .* has a caption')])
def test_summaries_that_cannot_be_used(step, tmp_path, capsys, line, message):
    step('--proposals', '9001')
    (tmp_path / 's.jsonl').write_text(line + '\n')
    with pytest.raises(SystemExit):
        main(['shards', str(step.out), '--out', str(tmp_path / 'wds'),
              '--summaries', str(tmp_path / 's.jsonl')])
    assert re.search(message, capsys.readouterr().err)


# open_clip leaves its files open.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_open_clip_reads_both(step):
    pytest.importorskip('webdataset', reason='open_clip reads shards with webdataset')
    pytest.importorskip('pandas', reason='open_clip reads lists with pandas')
    data = pytest.importorskip('open_clip_train.data', reason='export/ needs open_clip')
    from types import SimpleNamespace

    step('--validation', '0.3', '--test', '0.3')
    out = step.out / 'abstracts'
    count = step.report()['parts']['train']['pictures']
    captions = {line['title'] for line in lists(out)['train']}

    def transform(image):
        return np.asarray(image).shape

    dataset = data.CsvDataset(str(out / 'train.csv'), transform, 'filepath', 'title',
                              tokenizer=lambda texts: texts)
    assert len(dataset) == count
    assert {dataset[i] for i in range(count)} == {((90, 120, 3), text) for text in captions}

    shard = str(out / 'train' / '000000.tar')
    arguments = SimpleNamespace(
        train_data=shard, val_data=shard, val_num_samples=count, train_num_samples=None,
        batch_size=1, workers=0, world_size=1, seed=0, train_data_upsampling_factors=None,
        dataset_resampled=False)
    for is_train in (True, False):
        shards = data.get_wds_dataset(arguments, transform, is_train, tokenizer=lambda text: [text])
        found = [(texts[0], tuple(np.ravel(shapes))) for shapes, texts in shards.dataloader]
        assert len(found) == shards.dataloader.num_samples == count
        assert set(found) == {(text, (90, 120, 3)) for text in captions}
    del shards
    gc.collect()  # here, not in another test
