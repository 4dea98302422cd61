"""Whether a command was asked to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

# Those received since a run began.
received: list[int] = []


def terminated() -> Callable[[], bool]:
    """Whether this process was asked to end since: a run then saves its state and ends.

    By SIGTERM, SIGHUP (the terminal was closed) or SIGINT (Ctrl-C; the second ends it at once);
    of several processes, also by the end of their launcher.
    """
    received.clear()
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    launcher = os.getppid()

    def ask(number: int, _: object) -> None:
        # A launcher passes on the Ctrl-C that a terminal has already sent to all processes.
        if number == signal.SIGINT and signal.SIGINT in received and not several:
            raise KeyboardInterrupt
        received.append(number)

    def orphaned() -> bool:
        if several and os.getppid() != launcher:
            received.append(signal.SIGHUP)
        return bool(received)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, ask)
    return orphaned
