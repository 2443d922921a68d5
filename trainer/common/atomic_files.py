"""Files that are written whole or not at all, text as UTF-8 wherever the process runs."""

import contextlib
import os
import pathlib


def is_still_at(path: pathlib.Path, descriptor: int) -> bool:
    """Returns True where the open file is the one at `path`: neither it nor a folder above was removed or renamed."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file, in place of an older one where there is one; a crash leaves one of the two.

    Raises:
      OSError: it cannot be written; nothing of it is left.
    """
    partial = path.with_name(f".incomplete_{path.name}")
    # A name of a file need not be text that UTF-8 can hold.
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        error.filename = str(path)  # of a full disk the system does not say which file it was
        raise
