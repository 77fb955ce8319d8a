# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The command line, ``astroclip-search query | rank | describe | ...``: arguments come in, a table or
a page and an exit code go out. ``parser`` knows the arguments and the help, ``searching`` and
``upkeep`` hold the commands, ``output`` prints and writes their results, ``columns`` chooses what a
person sees of a table, and ``targets`` which files may be written.
"""

import argparse
import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from astropy.utils.exceptions import AstropyWarning

from ..exceptions import expected_errors, one_line
from .output import check, put, say, show_error, with_options
from .parser import BROKEN_PIPE, BUG, INTERRUPTED, WRONG, ArgumentsError, make_parser

__all__ = ['main']

_LONGEST = 2000  # letters of a message; a sentence that lists the columns of a table has hundreds


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line; the exit code is explained at the end of ``--help``.
    """
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except ArgumentsError as error:
        wants_json = '--json' in (sys.argv[1:] if argv is None else argv)
        return _failed(error, str(error), WRONG, as_json=wants_json)
    if not hasattr(arguments, 'run'):
        parser.print_help()
        return WRONG

    def failed(error: BaseException, message: str, code: int) -> int:
        return _failed(error, message, code, as_json=arguments.json, debug=arguments.debug)

    try:
        with _messages(arguments.quiet, arguments.verbose), _settings(arguments):
            check(arguments)
            code = arguments.run(arguments)
            sys.stdout.flush()  # here, where a closed pipe is understood, not at the exit
            return code
    except KeyboardInterrupt as stop:
        return failed(stop, 'interrupted; what was embedded is kept', INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except expected_errors() as error:
        return failed(error, f'astroclip-search: {_sentence(error)}', WRONG)
    # Anything else is a defect of the program; the trace helps only its authors.
    except Exception as error:
        return failed(error, f'astroclip-search: unexpected {type(error).__name__}: '
                      f'{one_line(error, _LONGEST)} (a defect: please report what --debug and '
                      '--versions print)', BUG)


def _sentence(said: object) -> str:
    """
    A message in one line, which names options and not arguments of Python.
    """
    return with_options(one_line(said, _LONGEST))


@contextlib.contextmanager
def _messages(quiet: bool, verbose: bool) -> Iterator[None]:
    """
    Warnings and log records as single lines on standard error.
    """
    from astropy.logger import conf as logging_conf

    from ..config import conf

    log = logging.getLogger('astroclip_search')
    level, handler = log.level, logging.StreamHandler()
    handler.setFormatter(_OneLine())
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter('ignore' if quiet else 'always', AstropyWarning)
            # Of astroquery, for each position; the help says it.
            warnings.filterwarnings('ignore', 'Coordinate string is being interpreted as an ICRS')
            # astropy's own handler would also print which line raised a warning, and importing
            # astroquery would install that handler again.
            warnings.showwarning = _show_warning
            stack.enter_context(logging_conf.set_temp('log_warnings', False))
            if quiet:
                stack.enter_context(conf.set_temp('show_progress', False))
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextlib.contextmanager
def _settings(arguments: argparse.Namespace) -> Iterator[None]:
    """
    Options that stand for a setting, as long as the command runs.
    """
    from ..config import conf

    if getattr(arguments, 'plane', None) is None:
        yield
    else:
        with conf.set_temp('plane', arguments.plane):
            yield


class _OneLine(logging.Formatter):
    """
    A record without the control characters that an archive may have put into it.
    """

    def format(self, record: logging.LogRecord) -> str:
        return _sentence(super().format(record))


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f'{category.__name__}: {_sentence(message)}', sys.stderr)


def _failed(error: BaseException, message: str, code: int, *, as_json: bool,
            debug: bool = False) -> int:
    """
    Say what went wrong, with ``--json`` as a document as well; the exit code.
    """
    if debug:
        put(traceback.format_exc(), sys.stderr)
    say(message, sys.stderr)
    if as_json:
        show_error(message.removeprefix('astroclip-search: '), type(error).__name__, code)
    return code


def _silence_stdout() -> None:
    """
    Let the interpreter flush the rest of the output into nothing.
    """
    with open(os.devnull, 'w') as devnull, contextlib.suppress(OSError, ValueError):
        os.dup2(devnull.fileno(), sys.stdout.fileno())
