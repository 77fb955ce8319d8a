"""Pictures of proposals, end to end over HTTP: which are taken, what fails, and going on."""

import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('astroquery', reason='this step needs the run-time dependencies')
pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from astroclip_search import conf
from export.data.hst import Settings, collect, observations
from export.data.pairs import read_manifest
from export.data.proposals import read_proposals
from export.data.split import caption_group, finish
from tests.export.data.collecting import Step
from tests.loopback.archive import blobs, jpeg
from tests.loopback.proposals import catalogue, configure, entry, made_up

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures('no_retries')


# ---- what is taken -----------------------------------------------------------------------


def test_everything_of_twelve_proposals(step, capsys):
    assert step() == 0
    rows = step.rows()
    assert len(rows) == len({row['id'] for row in rows}) == 48
    # Not the single filters, the mosaics of many proposals, what is raw, secret or a spectrum.
    assert all(re.fullmatch(rf'hst_{row["proposal_id"]}_\d\d_acs_wfc_total_j\d+', row['id'])
               for row in rows)
    report = step.report()
    assert [report[name] for name in ('pictures', 'repeated', 'never')] == [48, 0, 0]
    assert json.loads(capsys.readouterr().out.partition('\n{')[2].join('{ ')) == report
    proposals = {proposal.number: proposal for proposal in read_proposals(step.catalogue)[0]}
    for row in rows:
        proposal = proposals[row['proposal_id']]
        assert row['caption'] == proposal.abstract
        assert row['caption_group'] == caption_group(proposal.abstract)
        assert (row['obs_title'], row['source']) == (proposal.title, 'hst')
    assert [row['proposal_id'] for row in step.rows('proposals')] == list(proposals)


@pytest.mark.parametrize(('height', 'width', 'size'), [
    (480, 640, [512, 384]), (900, 300, [171, 512]), (60, 80, [80, 60])])
def test_pictures_are_whole_and_have_no_border(step, height, width, size):
    """None is cut, padded or enlarged."""
    files = step.mast.archive.files
    for i, uri in enumerate(uri for uri in files if 'hst_9001_' in uri):
        files[uri] = jpeg(blobs(np.random.default_rng(i), 900)[:height, :width])
    step('--proposals', '9001')
    assert len(step.rows()) == 4
    for row in step.rows():
        with Image.open(step.out / row['file']) as image:
            assert image.format == 'JPEG'
            assert list(image.size) == row['size'] == size
            here = np.asarray(image, float)
        original = Image.open(io.BytesIO(files[row['address']]))
        there = np.asarray(original.resize(size, Image.Resampling.LANCZOS), float)
        assert np.abs(here - there).mean() < 4


def test_the_trainer_reads_the_manifest(step):
    step()
    pairs = read_manifest(step.out)
    assert len(pairs) == 48
    for pair in pairs:
        assert pair.file.exists()
        assert pair.obs_title
        assert pair.captions


def test_a_sample_has_nothing_twice_and_does_not_change(step):
    step('--per-proposal', '3')
    rows = step.rows()
    assert set(Counter(row['proposal_id'] for row in rows).values()) == {3}
    assert len({row['id'] for row in rows}) == len(rows) == 36
    # Not simply the first ones, in an archive that answers in order of time.
    assert any(row['id'].split('_')[2] == '03' for row in rows)
    settings = Settings('HST', 3)
    chosen = [row['obs_id'] for row in observations('9001', settings)]
    step.mast.archive.rows.reverse()
    assert [row['obs_id'] for row in observations('9001', settings)] == chosen
    more = [row['obs_id'] for row in observations('9001', Settings('HST', 4))]
    assert more[:3] == chosen


def test_previews_in_colour_where_there_are_some(step):
    step('--colour', '--proposals', '9001', '9008')
    assert Counter(row['address'].endswith('_color.jpg') for row in step.rows()) == {
        True: 4, False: 4}


@pytest.mark.parametrize(('jpeg_url', 'data_url'), [
    (None, '{name}_drz.fits'), ('{name}_drz_color.jpg', None), (None, None)])
def test_rows_that_do_not_name_the_preview(step, jpeg_url, data_url):
    archive = step.mast.archive
    for row in archive.rows:
        name = f'mast:HST/product/{row["obs_id"]}'
        content = archive.files[row['jpegURL']]
        archive.files[f'{name}_drz.jpg'] = content
        archive.files.pop(f'{name}_drc.jpg', None)
        row['jpegURL'] = jpeg_url and jpeg_url.format(name=name)
        row['dataURL'] = data_url and data_url.format(name=name)
    assert step('--proposals', '9001') == 0
    assert sorted(row['address'] for row in step.rows()) == [
        f'mast:HST/product/hst_9001_0{i}_acs_wfc_total_j90010{i}_drz.jpg' for i in range(4)]


def test_jwst(tmp_path, serve):
    text, archive = made_up(3, mission='JWST')
    step = Step(tmp_path, text)
    serve(archive)
    assert step('--mission', 'JWST') == 0
    rows = step.rows()
    assert len(rows) == 12
    assert {row['source'] for row in rows} == {'jwst'}
    assert all(re.fullmatch(r'mast:JWST/product/jw0900\d-o.*_i2d\.jpg|mast:JWST/product/jw0901.*',
                            row['address']) for row in rows)


def test_cycles_and_proposals(step):
    assert step('--cycles', '12', '13', '--proposals', '9001', '09008', '9015') == 0
    assert {row['proposal_id'] for row in step.rows()} == {'9001', '9008'}


def test_proposals_without_pictures_and_broken_entries(step, capsys):
    text = step.catalogue.read_text() + catalogue([
        entry(5, 'Spectra', 'We take spectra.'), 'ID: x\nTitle: Broken\nPI: N\n\nAbstract.\n'])
    step.catalogue.write_text(text)
    assert step('--proposals', '5', '9001') == 0
    assert step.report()['without_pictures'] == 1
    assert {row['proposal_id'] for row in step.rows('proposals')} == {'9001'}
    assert "'x' is no proposal number" in (step.out / 'problems.txt').read_text()
    assert '1 entries' in capsys.readouterr().out


def test_nothing_at_all(step, capsys):
    step.mast.archive.rows.clear()
    assert step() == 0
    assert step.rows() == []
    assert step.report()['without_pictures'] == 12


# ---- manners and failures ----------------------------------------------------------------


def test_the_archive_is_asked_politely(step):
    step.mast.latency = 0.02
    with conf.set_temp('n_connections', 3):
        assert step('--proposals', '9001', '9008', '9015') == 0
    assert 1 < step.mast.max_in_flight <= 3
    assert {method for method, _ in step.mast.log} == {'GET', 'POST'}
    services = Counter(what for method, what in step.mast.log if method == 'POST')
    assert services['Mast.Caom.Filtered'] == 3
    assert len(step.mast.downloads()) == 12
    step()
    assert max(Counter(step.mast.downloads()).values()) == 1


def only(step, number='9001'):
    return json.loads((step.out / 'units' / f'{number}.json').read_text())


@pytest.mark.parametrize(('fault', 'reason', 'kind'), [
    ('status:404', 'HTTP 404', 'never'), ('status:403', 'HTTP 403', 'never'),
    ('html', 'web page', 'never'), ('html-as-jpeg', 'web page', 'never'),
    ('empty', 'empty file', 'never'), ('huge', 'larger than', 'never'),
    ('truncated', 'damaged image', 'never'), ('redirect-file', 'not an http', 'never'),
    ('status:503', 'HTTP 503', 'later'), ('status:429', 'HTTP 429', 'later'),
    ('reset', 'broken', 'later'), ('hang', 'no answer in time', 'later')])
def test_a_picture_that_does_not_come(step, capsys, fault, reason, kind):
    step.mast.faults['hst_9001_02'] = fault
    with conf.set_temp('timeout', 0.5), conf.set_temp('row_timeout', 1.0):
        assert step('--proposals', '9001') == 0
    assert len(step.rows()) == 3
    unit = only(step)
    (name, message), = unit[kind].items()
    assert name == 'hst_9001_02_acs_wfc_total_j900102'
    assert reason in message
    assert 'hst_9001_02' in message
    assert step.report()[kind] == 1
    assert ('--retry' in capsys.readouterr().out) == (kind == 'later')


def test_retry_asks_again_for_what_may_come(step):
    step.mast.faults.update({'hst_9001_02': 'status:503', 'hst_9008_02': 'status:404'})
    step('--proposals', '9001', '9008')
    step.mast.faults.clear()
    step.mast.clear()
    step('--proposals', '9001', '9008')
    assert step.mast.downloads() == []
    step('--proposals', '9001', '9008', '--retry')
    assert len(step.mast.downloads()) == 4
    assert step.report() | {'parts': None} == {
        'proposals': 2, 'without_pictures': 0, 'pictures': 7, 'repeated': 0, 'never': 1,
        'later': 0, 'parts': None}


def test_pictures_of_one_tone_are_left_out(step):
    uri = 'mast:HST/product/hst_9001_02_acs_wfc_total_j900102_drc.jpg'
    image = np.full((50, 50, 3), 7, np.uint8)
    image[:2, :2] = 30  # or it would be blank
    step.mast.archive.files[uri] = jpeg(image)
    step('--proposals', '9001')
    assert 'of one tone' in only(step)['never']['hst_9001_02_acs_wfc_total_j900102']


def test_names_that_are_paths_are_no_names(step):
    for row in step.mast.archive.rows:
        if row['proposal_id'] == '9001':
            row['obs_id'] += '/../../../x'
    step('--proposals', '9001', '9008')
    assert {row['proposal_id'] for row in step.rows()} == {'9008'}


@pytest.mark.parametrize('fault', [{'Mast.Caom': 'status:503'}, {'mast:HST': 'status:503'}])
def test_mast_that_is_down_ends_the_run_and_leaves_no_trace(step, capsys, fault):
    step.mast.faults.update(fault)
    assert step() == 1
    assert 'MAST failed for 3 proposals in a row' in capsys.readouterr().err
    assert list((step.out / 'units').iterdir()) == []
    step.mast.faults.clear()
    assert step() == 0
    assert len(step.rows()) == 48


def test_a_proposal_that_mast_fails_for_is_asked_for_again(step, capsys):
    step.mast.faults["proposal_id=['9008']"] = 'status:503'
    assert step('--proposals', '9001', '9008', '9015') == 1
    assert '1 proposals and 0 pictures did not come' in capsys.readouterr().out
    assert {row['proposal_id'] for row in step.rows()} == {'9001', '9015'}
    step.mast.faults.clear()
    assert step('--proposals', '9001', '9008', '9015') == 0
    assert len(step.rows()) == 12


@pytest.mark.parametrize(('options', 'message'), [
    (['--abstracts', 'nowhere.cat'], 'nowhere.cat'),
    (['--per-proposal', '0'], 'at least 1'), (['--validation', '0.6', '--test', '0.4'], 'shares'),
    (['--test', '-0.1'], 'shares'), (['--mission', 'JWST', '--colour'], 'no colour previews of JW'),
    (['--cycles', '90', '99'], 'no proposal meets'), (['--mission', 'IUE'], 'invalid choice')])
def test_mistakes_of_a_person(step, capsys, options, message):
    with pytest.raises(SystemExit, match='2'):
        step(*options)
    assert message in capsys.readouterr().err
    assert step.mast.log == []


def test_a_folder_keeps_its_settings(step, capsys):
    step('--proposals', '9001')
    with pytest.raises(SystemExit):
        step('--per-proposal', '3')
    error = capsys.readouterr().err
    assert "'per_proposal': 20" in error
    assert 'give the same options, or another folder' in error


# ---- going on ----------------------------------------------------------------------------


def test_a_run_that_is_killed_goes_on(step, tmp_path):
    """The result is the same, and no more than one proposal is asked for twice."""
    (tmp_path / 'whole').mkdir()
    whole = Step(tmp_path / 'whole', step.catalogue.read_text())
    assert whole() == 0
    expected = step.mast.downloads()
    step.mast.clear()
    step.mast.latency = 0.1  # so that there is a middle
    environment = configure(tmp_path / 'settings', step.mast.url) | {'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([sys.executable, '-m', 'export', *step.command()], cwd=ROOT,
                               env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(step.out.glob('units/*.json'))) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (step.out / 'manifest.jsonl').exists()
    done = len(list(step.out.glob('units/*.json')))
    assert 4 <= done < 12
    step.mast.latency = 0.0
    assert step() == 0
    times = Counter(step.mast.downloads())
    assert sorted(times) == sorted(expected)
    assert len({uri.split('_')[1] for uri in times if times[uri] > 1}) <= 1
    assert {name: content for name, content in step.result().items()
            if not name.endswith('.part')} == whole.result()


def test_interrupted_by_a_person(step, capsys, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    step('--proposals', '9001')
    with monkeypatch.context() as patch:
        patch.setattr('export.data.hst.observations', interrupt)
        assert step() == 130
    assert 'the same command goes on from here' in capsys.readouterr().err
    assert step() == 0
    assert len(step.rows()) == 48


@pytest.mark.parametrize('at', ['units/9008.json', 'manifest.jsonl', 'train.csv', '000000.tar',
                                '.jpg'])
def test_stopped_at_any_file(step, monkeypatch, tmp_path, at):
    """Whatever is being written last, the next run completes it."""
    (tmp_path / 'twin').mkdir()
    twin = Step(tmp_path / 'twin', step.catalogue.read_text())
    assert twin('--proposals', '9001', '9008') == 0
    replace = Path.replace

    def fail(path, target):
        if str(target).endswith(at):
            raise MemoryError('killed here')
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'replace', fail)
        with pytest.raises(MemoryError):
            step('--proposals', '9001', '9008')
    assert step('--proposals', '9001', '9008') == 0
    assert step.result() == twin.result()


def test_collect_needs_no_command_line(step):
    proposals, _ = read_proposals(step.catalogue)
    assert collect(proposals[:2], step.out, Settings('HST', 2)) == 0
    assert finish(proposals, step.out)['pictures'] == 4
