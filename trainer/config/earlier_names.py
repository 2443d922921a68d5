"""Settings of a saved configuration that went by another name when it was saved."""

from collections.abc import Mapping
from typing import Any

from trainer.config.settings import OFF, PASSES

_JIT_COMPILE = "jit_compile"


def replaced(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a saved configuration, nested dictionaries, under their present names and values."""
    now = {key: value for key, value in tree.items() if key != _JIT_COMPILE}
    return now | {"compile": PASSES if tree[_JIT_COMPILE] else OFF} if _JIT_COMPILE in tree else now
