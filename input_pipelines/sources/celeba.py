"""CelebA's lists as they are published: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

A list is text: in the first line the number of rows, in the second the names of the columns, then in each row the name
of a picture and its numbers, separated by spaces. Those of the splits and of the identities have no such lines.
"""

import functools
import os
from collections.abc import Sequence

import numpy as np

from input_pipelines.sources.source import Arrays
from trainer.common.errors import ConfigError

FILE, PARTITION = "file", "partition"  # columns
ATTRIBUTES = "list_attr_celeba.txt"
PICTURES = ("img_align_celeba", "img_celeba")  # folders, the first that is there
# Lists beside the attributes' → the names of their columns; None: they are in the file.
_BESIDE = {
    "list_eval_partition.txt": (PARTITION,),
    "identity_CelebA.txt": ("identity",),
    "list_landmarks_align_celeba.txt": None,
}


def folder(path: str) -> str | None:
    """The folder of CelebA's lists, where `path` is that folder or the list of the attributes in it; else None."""
    if os.path.basename(path) == ATTRIBUTES:
        return os.path.dirname(path) or "."
    return path if os.path.isfile(os.path.join(path, ATTRIBUTES)) else None


def read(root: str, field: str) -> Arrays:
    """The rows of the attributes' list: `file`, the attributes (-1 or 1), and the numbers of the lists beside it.

    `partition` is 0 to train, 1 to validate, 2 to test, `identity` the person, `lefteye_x` and so on the landmarks.

    Raises:
      ConfigError: a list that is not as it is published, naming its row.
    """
    path = os.path.join(root, ATTRIBUTES)
    files, arrays = _list(path, None, field)
    for name, columns in _BESIDE.items():
        beside = os.path.join(root, name)
        if os.path.isfile(beside):
            own, more = _list(beside, columns, field)
            if own != files:
                raise ConfigError(f"{field}.path", beside, f"has other rows than {ATTRIBUTES}")
            arrays |= more
    named = np.array([name.encode() for name in files], object)
    return Arrays({FILE: named, **arrays}, functools.partial("{}, row {}".format, path))


def _list(path: str, columns: Sequence[str] | None, field: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """The pictures' names, and column → int64 numbers."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file]
    if columns is None:
        if len(lines) < 2 or len(lines[0]) != 1:
            reason = "must begin with a line for the number of rows and one for the names of the columns"
            raise ConfigError(f"{field}.path", path, reason)
        columns, count = lines[1], lines[0][0]
        lines = [line for line in lines[2:] if line]
        if count != str(len(lines)):
            raise ConfigError(f"{field}.path", path, f"holds {len(lines)} rows; its first line says {count}")
    lines = [line for line in lines if line]
    for row, line in enumerate(lines):
        if len(line) != 1 + len(columns):
            raise ConfigError(f"{field}.path", f"{path}, row {row}", f"must hold a name and {len(columns)} numbers")
    try:
        numbers = np.array([[int(number) for number in line[1:]] for line in lines], np.int64)
    except ValueError as error:
        raise ConfigError(f"{field}.path", path, f"holds what is no whole number: {error}") from error
    return [line[0] for line in lines], {name: numbers[:, index].copy() for index, name in enumerate(columns)}
