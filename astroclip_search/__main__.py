# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m astroclip_search`` and the command ``astroclip-search``: a process of its own, which an
interruption (Ctrl-C) ends within two seconds, whatever it is about.

Python hears of one when the main thread comes back from the code of a library, which may be late.
A thread hears of it at once, and ends the process if the command has not done it. Nothing is lost
by that: what is written is written beside its target first, and the cache keeps what it has.
"""

# What takes longer to import comes after the first line of `main`.
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ['main']

_SAID = b'interrupted; what was embedded is kept\n'

_CODE = 128 + signal.SIGINT  # as a shell counts signals

# Seconds that the command has to end by itself.
_PATIENCE = 1.5


def main() -> int:
    """
    Run the command line as a process of its own; the exit code is explained by ``--help``.
    """
    ends = _End()
    # While modules are loaded there is nothing to clean up, and much to take apart.
    ends.at_once(True)
    ends.watch()
    from .cli import main as run

    try:
        ends.at_once(False)
        return run()
    except KeyboardInterrupt:  # before or after the command could say so itself
        return ends.say()
    finally:
        ends.is_over = True
        ends.at_once(True)  # the interpreter only waits for threads


class _End:
    """
    Ends the process when it is interrupted; once the command ``is_over``, without a word.
    """

    def __init__(self) -> None:
        import threading

        self.is_over = False
        # Else another program runs the command, and interruptions are its own.
        self.is_main = (threading.current_thread() is threading.main_thread()
                        and callable(signal.getsignal(signal.SIGINT)))

    def at_once(self, wanted: bool) -> None:
        """
        Choose what an interruption does: end the process, or raise `KeyboardInterrupt`.
        """
        if self.is_main:
            signal.signal(signal.SIGINT, self.now if wanted else signal.default_int_handler)

    def now(self, *_: 'Any') -> None:
        """
        End the process.
        """
        code = _CODE if self.is_over else self.say()
        os._exit(code)

    def say(self) -> int:
        """
        Say that it was interrupted; the exit code.
        """
        os.write(2, _SAID)
        return _CODE

    def watch(self) -> None:
        """
        Start the thread that hears of interruptions.
        """
        import socket
        import threading

        if self.is_main:
            reader, writer = socket.socketpair()
            writer.setblocking(False)
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._wait, args=(reader, writer), daemon=True,
                             name='astroclip-interruptions').start()

    def _wait(self, reader: 'Any', _: 'Any') -> None:
        import time

        n_heard = 0
        while number := reader.recv(1):
            n_heard += number[0] == signal.SIGINT
            # The first one lets a ranking that can be stopped go on with what there is.
            if n_heard > 1 or (n_heard and not _is_stoppable()):
                time.sleep(_PATIENCE)
                self.now()


def _is_stoppable() -> bool:
    config = sys.modules.get('astroclip_search.config')
    return config is not None and config.conf.show_progress == 'live'


if __name__ == '__main__':
    sys.exit(main())
