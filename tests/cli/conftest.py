# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What several tests of the command line share.
"""

import pytest

from astroclip_search.cli import main


@pytest.fixture
def command(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run
