"""Settings of a saved configuration that went by another name when it was saved."""

from collections.abc import Mapping
from typing import Any

from trainer.config.settings import OFF, PASSES

_JIT_COMPILE = "jit_compile"


def replaced(tree: Any) -> Any:
    """Returns what a saved configuration holds, nested dictionaries, under its present names and values.

    Anything else that a file may hold is returned as it is.
    """
    if not isinstance(tree, Mapping) or _JIT_COMPILE not in tree:
        return tree
    now = {key: value for key, value in tree.items() if key != _JIT_COMPILE}
    return now | {"compile": PASSES if tree[_JIT_COMPILE] else OFF}
