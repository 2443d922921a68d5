"""Files that are written whole or not at all, text as UTF-8 wherever the process runs, and never through a link.

They are on the disk before anything relies on them; checksums tell whether they are what was written.
"""

import contextlib
import errno
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator
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
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=open_no_link)


def is_still_at(path: pathlib.Path, descriptor: int) -> bool:
    """Returns True where the open file is the one at `path`: neither it nor a folder above was removed or renamed."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file, in place of an older one where there is one; a crash leaves one of the two.

    It is on the disk once this returns.

    Raises:
      OSError: it cannot be written; nothing of it is left.
    """
    partial = path.with_name(f".incomplete_{path.name}")
    # A name of a file need not be text that UTF-8 can hold.
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    file = open(partial, "wb", opener=open_no_link)  # noqa: SIM115 (what cannot be opened is not removed)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        error.filename = str(path)  # of a full disk the system does not say which file it was
        raise


@contextlib.contextmanager
def written_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `path` to write a file or a folder to, which gets that name when the context ends.

    Where the context fails, nothing of it is left. Raises OSError where it cannot be written.
    """
    partial = path.with_name(f".incomplete_{path.name}")
    try:
        _remove(partial)
        yield partial
        for folder, _, files in os.walk(partial):
            for name in files:
                sync(pathlib.Path(folder, name))
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
