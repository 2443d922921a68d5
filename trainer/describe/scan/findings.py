"""Lines about what is wrong with the data."""

import collections

_LISTED = 1000  # lines of one kind; more are counted


class Findings:
    """Collects lines about what is wrong, in a bounded memory."""

    def __init__(self):
        self._lines: dict[str, list[str]] = collections.defaultdict(list)
        self._more: collections.Counter[str] = collections.Counter()

    def add(self, kind: str, line: str) -> None:
        """Takes in a line; `kind` is the same for lines of which a thousand say enough."""
        if len(self._lines[kind]) < _LISTED:
            self._lines[kind].append(line)
        else:
            self._more[kind] += 1

    def takes(self, kind: str) -> bool:
        """Returns False where another line of this kind would only be counted."""
        return len(self._lines[kind]) < _LISTED

    def lines(self) -> list[str]:
        """All lines, those of a kind together."""
        found = []
        for kind, lines in self._lines.items():
            found += lines
            if self._more[kind]:
                found.append(f"{kind}: {self._more[kind]:,} more like these")
        return found

    def __len__(self) -> int:
        """The number of lines, those that are only counted too."""
        return sum(map(len, self._lines.values())) + self._more.total()
