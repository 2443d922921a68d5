"""Names chosen by patterns as in file names: `*`, `?`, `[abc]`."""

import fnmatch
import re
from collections.abc import Collection

_WILDCARD = re.compile(r"[*?]|\[!?\]?[^\]]*\]")


def matching(names: Collection[str], pattern: str) -> list[str]:
    """Returns the names that a pattern matches; of a pattern that is one of the names itself, that one alone."""
    return [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def escaped(text: str) -> str:
    """Returns a pattern that matches this text alone."""
    return re.sub(r"[*?[]", r"[\g<0>]", text)


def renamed(name: str, pattern: str, new: str) -> str | None:
    """Returns `new` with what each `*` of a pattern matches in the name in place of its own; None without a match."""
    expression, end = "", 0
    for part in _WILDCARD.finditer(pattern):
        expression += re.escape(pattern[end : part.start()]) + _expression(part[0])
        end = part.end()
    match = re.fullmatch(expression + re.escape(pattern[end:]), name, re.DOTALL)
    if match is None:
        return None
    carried = iter(match.groups())
    return re.sub(r"\*", lambda _: next(carried), new)


def _expression(wildcard: str) -> str:
    """A regular expression for one of the three."""
    if wildcard in "*?":
        return {"*": "(.*)", "?": "."}[wildcard]
    within = wildcard[1:-1].replace("\\", r"\\")
    return f"[^{within[1:]}]" if within.startswith("!") else f"[{within}]"
