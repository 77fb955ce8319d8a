# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Command line: ``astroclip-search query | rank | describe | ...``.

``parser`` says what can be asked, ``searching`` and ``upkeep`` do it, ``output`` shows it.
"""

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from astropy.utils.exceptions import AstropyWarning

from .output import check, printable
from .parser import BROKEN_PIPE, BUG, INTERRUPTED, WRONG, make_parser

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        0 if all went well, 1 if nothing was found or could be ranked, or a self-test failed, 2 for
        wrong arguments and errors that a message explains, 3 for a defect of the program, 130
        after Ctrl-C, 141 if the reader of a pipe has gone.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, 'run'):
        parser.print_help()
        return WRONG
    with _messages(arguments.quiet, arguments.verbose):
        try:
            check(arguments)
            code = arguments.run(arguments)
            sys.stdout.flush()  # here, where a closed pipe is understood, not at the exit
            return code
        except KeyboardInterrupt:
            _say('interrupted; what was embedded is kept', arguments.debug)
            return INTERRUPTED
        except BrokenPipeError:
            _silence_stdout()
            return BROKEN_PIPE
        except _expected_errors() as error:
            _say(f'astroclip-search: {_one_line(error)}', arguments.debug)
            return WRONG
        # Whatever else happens is a defect, and a trace is of use to its authors only.
        except Exception as error:
            _say(f'astroclip-search: unexpected {type(error).__name__}: {_one_line(error)} (a '
                 'defect: please report what --debug and --versions print)', arguments.debug)
            return BUG


@contextlib.contextmanager
def _messages(quiet: bool, verbose: bool) -> Iterator[None]:
    """
    Warnings and log records as single lines on standard error.
    """
    from astropy.logger import conf as logging_conf

    from .. import conf

    log = logging.getLogger('astroclip_search')
    level, handler = log.level, logging.StreamHandler()
    handler.setFormatter(_OneLine())
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter('ignore' if quiet else 'always', AstropyWarning)
            # Astropy's own handler would print a warning with the place that raised it; astroquery
            # would install it once more when it is imported.
            warnings.showwarning = _show_warning
            stack.enter_context(logging_conf.set_temp('log_warnings', False))
            if quiet:
                stack.enter_context(conf.set_temp('show_progress', False))
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _OneLine(logging.Formatter):
    """
    A record without the control characters that an archive may have put into it.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(_one_line(super().format(record)))


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f'{category.__name__}: {printable(_one_line(message))}', file=sys.stderr)


def _say(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(printable(message), file=sys.stderr)


def _one_line(message: object) -> str:
    return ' '.join(str(message).split())


def _silence_stdout() -> None:
    """
    Let the interpreter flush what is left into nothing, without a word.
    """
    with open(os.devnull, 'w') as devnull, contextlib.suppress(OSError, ValueError):
        os.dup2(devnull.fileno(), sys.stdout.fileno())


def _expected_errors() -> tuple[type[Exception], ...]:
    """
    Errors whose message tells the user what to do.
    """
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError, ResolverError
    from requests.exceptions import RequestException

    from ..exceptions import ClipSearchError

    return (ClipSearchError, InvalidQueryError, RemoteServiceError, ResolverError,
            RequestException, OSError)
