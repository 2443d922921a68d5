"""Names chosen by patterns as in file names: `*`, `?`, `[abc]`."""

import fnmatch
import re
from collections.abc import Collection


def matching(names: Collection[str], pattern: str) -> list[str]:
    """Returns the names that a pattern matches; of a pattern that is one of the names itself, that one alone."""
    return [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def escaped(text: str) -> str:
    """Returns a pattern that matches this text alone."""
    return re.sub(r"[*?[]", r"[\g<0>]", text)
