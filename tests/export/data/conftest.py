"""The steps `hst` and `summarise`, ready to be run."""

import pytest


@pytest.fixture
def no_retries():
    from astroclip_search import conf

    with conf.set_temp('retries', 0):
        yield


@pytest.fixture(scope='session')
def twelve():
    from tests.loopback.proposals import made_up

    return made_up(12)


@pytest.fixture
def step(twelve, tmp_path, serve):
    """The step for twelve proposals of HST with four pictures each."""
    from tests.export.data.collecting import Step
    from tests.loopback.archive import Archive

    text, archive = twelve
    step = Step(tmp_path, text)
    step.mast = serve(Archive(archive.rows, archive.files))
    return step


@pytest.fixture
def no_waiting(monkeypatch):
    from export.data import chat

    monkeypatch.setattr(chat, '_BACK_OFF', 0.01)


@pytest.fixture
def run(tmp_path):
    """Run the step against a server, and return its exit status."""
    from export.__main__ import main

    def run(server, proposals, *arguments):
        return main(['summarise', str(proposals), '--out', str(tmp_path / 'out'), '--server',
                     server.url, '--model', 'tiny', *arguments])
    return run
