"""Words that people bring for a setting, where the setting's own name is spelled otherwise."""

import difflib
from collections.abc import Collection, Mapping

# Word → names of settings, the likeliest first; those that do not exist where the word stands are passed over.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "gradients": ("reduction",),
}


def meant(word: str, names: Collection[str]) -> str | None:
    """The one of `names` that `word` probably means: by a synonym, else the nearest spelling; None where none is."""
    for name in SYNONYMS.get(word.lower(), ()):
        if name in names:
            return name
    near = difflib.get_close_matches(word, names, n=1)
    return near[0] if near else None
