"""The pictures below a folder, found by what the cells of a table say."""

import collections
import os
from collections.abc import Collection

import numpy as np

from input_pipelines.sources import encoded_pictures, folders
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays
from trainer.common.errors import ConfigError


class PictureFiles:
    """All files below a folder, by their paths and, of pictures, by their names with and without ending."""

    def __init__(self, root: str):
        """Looks for the files below `root`, a folder."""
        self.root = root
        self.paths = {path for path in folders.below(root) if not folders.is_hidden(os.path.basename(path))}
        self.pictures = sorted(path for path in self.paths if is_picture(path))
        self._named: dict[str, list[str]] = collections.defaultdict(list)
        self._numbered: dict[int, list[str]] = collections.defaultdict(list)
        for path in self.pictures:
            name = os.path.basename(path)
            stem = os.path.splitext(name)[0]
            self._named[name].append(path)
            if stem != name:
                self._named[stem].append(path)
            if stem.isdecimal():
                self._numbered[int(stem)].append(path)

    def column(self, table: Arrays, column: str, field: str, others: Collection[bytes] = ()) -> np.ndarray:
        """Returns (rows,) paths of files, bytes objects; b"" where a cell is empty, None where its file is not there.

        A cell holds the path of a picture, or the end of its path, with or without ending; a number is the one that is
        the picture's name.

        Args:
          table: the rows.
          column: the one whose cells name pictures.
          field: the configuration's key of the split, for errors.
          others: paths of pictures that a name does not mean, those of masks.

        Raises:
          ConfigError: several pictures have the name, naming the row.
        """
        values = table.arrays[column]
        found = np.empty(len(values), object)
        for row, value in enumerate(values.tolist()):
            if value in (b"", ABSENT_INTEGER) or value != value:
                found[row] = b""
                continue
            matching = self._matching(value)
            if len(matching) > 1:
                matching = [path for path in matching if os.fsencode(os.path.join(self.root, path)) not in others]
            if len(matching) > 1:
                reason = f"column {column!r} names several pictures: {', '.join(matching[:3])}; a path says which"
                raise ConfigError(field, table.where(row), reason)
            found[row] = os.fsencode(os.path.join(self.root, matching[0])) if matching else None
        return found

    def without_row(self, used: Collection[bytes]) -> list[str]:
        """Returns the paths below the folder of pictures that are not among those used."""
        return [path for path in self.pictures if os.fsencode(os.path.join(self.root, path)) not in used]

    def _matching(self, value: bytes | float) -> list[str]:
        if not isinstance(value, bytes):
            return self._numbered.get(int(value), []) if value % 1 == 0 else []
        given = os.fsdecode(value)
        if os.path.isabs(given) and os.path.isfile(given):
            return [given]
        path = os.path.normpath(given.replace("\\", "/"))
        if path in self.paths:
            return [path]
        return [each for each in self._named.get(os.path.basename(path), ()) if self._ends_in(each, path)]

    def _ends_in(self, path: str, given: str) -> bool:
        """Returns whether the whole path of a file, with or without its ending, ends in what is given."""
        whole = os.path.join(os.path.abspath(self.root), path)
        return f"/{given}" in (whole[-len(given) - 1 :], os.path.splitext(whole)[0][-len(given) - 1 :])


def is_picture(path: str) -> bool:
    """Returns True for the path of a picture, by its ending."""
    return os.path.splitext(path)[1].lower() in encoded_pictures.ENDINGS
