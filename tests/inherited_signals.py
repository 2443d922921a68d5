"""Signals that this process has inherited as ignored, and those that it starts would, too."""

import signal

WANTED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)


def restore() -> None:
    """Gives those that are ignored a handler that does nothing, which a started process does not inherit."""
    for number in WANTED:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
