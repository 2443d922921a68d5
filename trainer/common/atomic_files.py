"""Files that are written whole or not at all, never through a symbolic link, and are on the disk; checksums."""

import errno
import hashlib
import os
import pathlib
from typing import TextIO


def open_no_link(path: str | os.PathLike[str], flags: int) -> int:
    """Opens a file as `os.open` does, also as the `opener` of `open`; raises OSError where its name is a symbolic link.

    In a folder that others may write to, somebody's link could lead to any file that is the user's.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        reason = f"{os.path.basename(path)} is a symbolic link, which a run never writes through"
        raise OSError(errno.ELOOP, reason, os.fspath(path)) from error


def open_to_append(path: pathlib.Path) -> TextIO:
    """Opens a text file to write behind what it holds; raises OSError where it cannot, or its name is a link."""
    return open(path, "a", opener=open_no_link)


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file, in place of an older one where there is one; a crash leaves one of the two.

    It is on the disk once this returns.
    """
    partial = path.with_name(f".incomplete_{path.name}")
    with open(partial, "w", opener=open_no_link) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Makes sure that a file, or what a folder says of its files, is on the disk before anything relies on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
