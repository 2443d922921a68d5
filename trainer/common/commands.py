"""Commands of the shell as they are shown to people."""

import shlex
from collections.abc import Iterable, Sequence

_SPECIAL = set('"$`\\!')  # within double quotes


def repeating(module: str, arguments: Sequence[str]) -> str:
    """The command that does once more, in a new directory, what a module was started for with these arguments."""
    kept, skips = [], False
    for argument in arguments:
        name, given, _ = argument.partition("=")
        if skips or name in ("--workdir", "-workdir"):
            skips = not skips and not given
        else:
            kept.append(argument)
    return joined(["python", "-m", module, *kept])


def joined(words: Iterable[str]) -> str:
    """The words as a line for the shell, in quotes where it needs them, in those that need no others within."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & _SPECIAL else shlex.quote(word) for word in words)
