"""An archive for references is read as a search reads it."""

import json

import pytest
from PIL import Image

from export.data import archive as module
from export.data.archive import read_archive


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        Image.new('RGB', (8, 8), (i, 0, 0)).save(tmp_path / f'{i}.png')
    return tmp_path


def test_images_alone(folder):
    archive = read_archive(folder)
    assert [pair.file.name for pair in archive.pairs] == ['0.png', '1.png', '2.png', '3.png']
    assert not archive.judges
    assert {pair.labels for pair in archive.pairs} == {()}


def test_rows_of_a_table(folder):
    (folder / 'rows.csv').write_text(
        'filename,target_name,obs_title,target_classification,obs_collection\n'
        '0.png,M 51,Tides,GALAXY; SPIRAL,HST\n1.png,M 13,Old stars,,JWST\n'
        '1.png,M 13,Again,,JWST\n,M 1,No picture,,JWST\n')
    archive = read_archive(folder)
    assert len(archive) == 2  # each picture once
    assert archive.refs.metadata[0] == 'M 51, Tides, GALAXY; SPIRAL'
    first, second = archive.pairs
    assert (first.source, first.labels) == ('HST', ('galaxy', 'spiral'))
    assert (second.labels, second.kind) == ((), 'globular_cluster')
    assert len(read_archive(folder / 'rows.csv')) == 2


def test_a_column_of_another_name(folder):
    (folder / 'rows.csv').write_text('name,where\nM 51,3.png\n')
    archive = read_archive(folder, image_column='where')
    assert [pair.file.name for pair in archive.pairs] == ['3.png']


def test_a_manifest_and_what_no_model_has_seen(folder, monkeypatch):
    (folder / 'manifest.jsonl').write_text('\n'.join(json.dumps({
        'id': str(i), 'source': 'here', 'title': f'M {i}', 'file': f'{i}.png',
        'labels': ['galaxy'], 'split': 'train' if i < 2 else 'test'}) for i in range(4)))
    archive = read_archive(folder)
    assert archive.judges
    assert archive.refs.metadata == ['M 0', 'M 1', 'M 2', 'M 3']
    monkeypatch.setattr(module, 'MOST', 2)
    assert [pair.file.name for pair in read_archive(folder).pairs] == ['2.png', '3.png']


def test_several_tables(folder):
    for name in ('a.csv', 'b.ecsv'):
        (folder / name).write_text('filename\n0.png\n')
    with pytest.raises(ValueError, match=r'several tables \(a.csv, b.ecsv\)'):
        read_archive(folder)
