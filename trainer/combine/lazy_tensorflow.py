"""TensorFlow, loaded when the first of its names is looked up: for modules that must be importable without it.

They begin with `from __future__ import annotations`, so that annotations look nothing up, and have
`from trainer.combine import lazy_tensorflow as tf` where others have `import tensorflow as tf`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorflow import *  # noqa: F403 (for editors and type checkers)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # Python asks modules for such names; TensorFlow's would be another module's
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module("tensorflow"), name)
    return found
