"""Files below a folder, those that are hidden or of the system apart, and what is left out, in words."""

import os
from collections.abc import Collection, Iterator, Sequence

_SYSTEM = (  # of macOS, of Windows, of network storage, of Linux
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
    "lost+found",
)
HIDDEN = "hidden or of the system"
_NAMED = 3  # of each kind


def is_hidden(name: str) -> bool:
    """Returns True for the name of a file or folder that is hidden (`.name`) or that an operating system puts there."""
    return name.startswith(".") or name.lower() in _SYSTEM


def subfolders(root: str) -> list[str]:
    """Names of the folders in a folder, sorted, but those that are hidden."""
    return sorted(name for name in os.listdir(root) if not is_hidden(name) and os.path.isdir(os.path.join(root, name)))


def below(root: str) -> Iterator[str]:
    """Yields the path below `root` of every file, those of a folder sorted, a hidden folder as a whole.

    Links to folders are followed, to each folder once.
    """
    visited = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(folder))
        hidden = [name for name in inner if is_hidden(name)]
        inner[:] = sorted(
            name for name in inner if name not in hidden and os.path.realpath(os.path.join(folder, name)) not in visited
        )
        inside = os.path.relpath(folder, root)
        for name in sorted([*files, *hidden]):
            yield name if inside == os.curdir else os.path.join(inside, name)


def unread(root: str, used: Collection[str], field: str) -> tuple[str, ...]:
    """A line about the files and folders in a folder, but those of these names; none where there are no others."""
    others = [name for name in sorted(os.listdir(root)) if name not in used]
    kinds = sorted((HIDDEN if is_hidden(name) else "in no split", name) for name in others)
    return (f"{field}: left out of {root}: {in_words(kinds)}",) if kinds else ()


def in_words(left_out: Sequence[tuple[str, str]]) -> str:
    """Returns how many files of each kind were left out, and the first few.

    Args:
      left_out: of each file what it is, and its path.
    """
    kinds: dict[str, list[str]] = {}
    for kind, path in left_out:
        kinds.setdefault(kind, []).append(path)
    return "; ".join(
        f"{len(paths)} {kind} ({', '.join(paths[:_NAMED])}{', ...' if len(paths) > _NAMED else ''})"
        for kind, paths in kinds.items()
    )
