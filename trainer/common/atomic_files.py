"""Files that are written whole or not at all, that are on the disk before anything relies on them, and checksums."""

import hashlib
import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file, in place of an older one where there is one; a crash leaves one of the two.

    It is on the disk once this returns.
    """
    partial = path.with_name(f".incomplete_{path.name}")
    with partial.open("w") as file:
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
