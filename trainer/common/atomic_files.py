"""Files that are written whole or not at all."""

import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file, in place of an older one where there is one; a crash leaves one of the two."""
    partial = path.with_name(f".incomplete_{path.name}")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
