"""Locks of files, which name the process that holds them; the system gives them back when that ends."""

import fcntl
import os
import socket

_LONGEST = 200  # bytes of a holder's name


def take(descriptor: int, *, shared: bool = False) -> str | None:
    """Locks an open file for this process and writes into it who holds it.

    Args:
      descriptor: of the file, open for reading and writing.
      shared: whether others that say so, too, can hold it at the same time.

    Returns:
      The process that has it, where that is another one and this one does not get it; else None.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, _LONGEST, 0).decode(errors="replace").strip() or "just begun"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return None
