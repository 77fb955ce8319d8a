"""An upload is exactly what the bundle lists, and can be said before."""

import hashlib
import json

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from huggingface_hub import constants

from astroclip_search.models.bundle import open_bundle
from export.__main__ import main
from export.release.push import contents, provenance, push
from tests import tiny
from tests.export.hub_server import COMMIT, hub

CARD = '---\nlicense: bsd-3-clause\ntags:\n- clip\n---\n\n# tiny\n'


@pytest.fixture
def bundle(tmp_path):
    path = tiny.write_bundle(tmp_path / 'model')
    (path / 'README.md').write_text(CARD, encoding='utf-8')
    tiny.seal(path, {'name': 'tiny', 'version': '1', 'licence': 'BSD-3-Clause',
                     'embedding_dim': 3, 'metrics': {'tables': []},
                     'parity': {'fp32': {'delta_cosine': 0.0}}})
    yield path
    open_bundle.cache_clear()


@pytest.fixture
def server(monkeypatch):
    with hub() as server:
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setattr(constants, 'ENDPOINT', server.url)
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        monkeypatch.setenv('HF_TOKEN', 'hf_of_a_test')
        yield server


def test_a_dry_run_lists_all_with_hashes_and_asks_no_one(bundle, server, capsys):
    (bundle / 'notes.txt').write_text('of no concern to anyone')
    before = {path: path.read_bytes() for path in bundle.rglob('*') if path.is_file()}
    assert main(['push', str(bundle), 'owner/name', '--dry-run']) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    listed = {line.split()[2]: line.split()[0] for line in lines}
    files = contents(bundle)
    assert listed == {name: hashlib.sha256(file if isinstance(file, bytes) else file.read_bytes())
                      .hexdigest() for name, file in files.items()}
    assert 'notes.txt' not in listed
    assert {'README.md', 'astroclip.json', 'onnx/vision_model.onnx'} <= set(listed)
    assert last.startswith('would go to owner/name; provenance ')
    assert server.requests == []
    assert {path: path.read_bytes() for path in bundle.rglob('*') if path.is_file()} == before


# The hub client uses its own HTTP client in a way that that has deprecated.
uploads = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@uploads
def test_what_arrives_is_what_was_said_and_opens(bundle, server, tmp_path, capsys):
    (bundle / 'secret.pem').write_text('not ours to give')
    assert main(['push', str(bundle), 'owner/name', '--private']) == 0
    *lines, _, last = capsys.readouterr().out.splitlines()
    assert last == f'commit {COMMIT}'
    files = server.uploaded()
    said = {line.split()[2]: line.split()[0] for line in lines}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == said
    assert server.made == [{'name': 'name', 'organization': 'owner', 'visibility': 'private'}]
    assert server.tokens == {'Bearer hf_of_a_test'}
    assert set(server.objects) == {said['onnx/vision_model.onnx'], said['onnx/text_model.onnx']}
    for name, content in files.items():
        path = tmp_path / 'fetched' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fetched = open_bundle(str(tmp_path / 'fetched'))
    digest = provenance(fetched.info)
    assert f'## Provenance\n`{digest}`' in files['README.md'].decode()
    assert server.commits[0][0]['value']['summary'] == f'Bundle {digest[:12]}'


def test_pushed_again_the_card_has_one_provenance(bundle, tmp_path):
    once = contents(bundle)
    for name in ('README.md', 'astroclip.json'):
        (bundle / name).write_bytes(once[name])
    twice = contents(bundle)
    assert twice['README.md'] == once['README.md']
    assert twice['astroclip.json'] == once['astroclip.json']


def test_a_bundle_may_be_pushed_when_it_is_made(bundle, server, monkeypatch, capsys):
    monkeypatch.setattr('export.release.bundle.bundle', lambda *_, **__: 1)
    arguments = ['bundle', 'checkpoint.pt', 'towers', '--out', str(bundle)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count('\n') == 1
    assert main([*arguments, '--push', 'owner/name', '--dry-run']) == 0
    assert 'would go to owner/name; provenance ' in capsys.readouterr().out
    assert server.requests == []
    (bundle / 'onnx' / 'text_model.onnx').write_bytes(b'')
    assert main([*arguments, '--push', 'owner/name']) == 1


@pytest.mark.parametrize('change', [
    {'licence': 'GPL-3.0'}, {'training': {'samples': 1}},
    {'files': {'config.json': '0' * 64}}])
def test_the_provenance_is_of_files_and_origin(bundle, change):
    info = json.loads((bundle / 'astroclip.json').read_text())
    card_changed = {**info, 'files': {**info['files'], 'README.md': '0' * 64}}
    assert provenance(card_changed) == provenance(info)
    assert provenance({**info, **change}) != provenance(info)


def damage(bundle):
    (bundle / 'onnx' / 'vision_model.onnx').write_bytes(b'')


def no_card(bundle):
    (bundle / 'README.md').unlink()
    tiny.seal(bundle)


def no_licence(bundle):
    (bundle / 'README.md').write_text('# tiny\n')
    tiny.seal(bundle)


def no_numbers(bundle):
    tiny.seal(bundle, {'name': 'tiny', 'licence': 'BSD-3-Clause'})


def pickle(bundle):
    (bundle / 'weights.bin').write_bytes(b'')
    tiny.seal(bundle)


@pytest.mark.parametrize(('spoil', 'reason'), [
    (damage, 'is corrupt'), (no_card, 'has no model card'), (no_licence, 'not say the licence'),
    (no_numbers, 'no measured numbers'), (pickle, 'weights.bin is no part of a bundle'),
    (lambda bundle: (bundle / 'astroclip.json').unlink(), 'has no astroclip.json')])
def test_what_must_not_be_released_is_not(bundle, server, capsys, spoil, reason):
    spoil(bundle)
    assert main(['push', str(bundle), 'owner/name']) == 1
    message = capsys.readouterr().err
    assert reason in message
    assert message.count('\n') == 1
    assert server.requests == []


def test_a_hub_that_refuses_is_one_sentence(bundle, server, capsys):
    server.refuses = True
    assert main(['push', str(bundle), 'owner/name']) == 1
    assert capsys.readouterr().err.startswith('Not uploaded: ')
    assert server.commits == []


def test_offline_nothing_is_sent(bundle, server, monkeypatch, capsys):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert main(['push', str(bundle), 'owner/name']) == 1
    assert 'Not uploaded: OfflineModeIsEnabled' in capsys.readouterr().err
    assert server.requests == []


@uploads
def test_a_branch(bundle, server):
    push(bundle, 'owner/name', revision='v2')
    assert ('POST', '/api/models/owner/name/commit/v2') in server.requests
