"""Trains Keras models with several heads and losses: reduce every loss's gradients, then combine, then apply.

The public names are those of `__all__`. They are loaded when they are first used, so that importing this package does
not load TensorFlow. They are for users: modules inside import a name from where it is defined.
"""

import importlib
from typing import Any

from trainer.common import after_import

__version__ = "0.1.0"  # pyproject.toml reads it from here

_ERRORS = (
    "ConfigError",
    "LogarithmError",
    "NonFiniteError",
    "NotPreparedError",
    "RunError",
    "StoppedError",
    "UntrustedError",
)
_MODULES = {
    **dict.fromkeys(_ERRORS, "trainer.common.errors"),
    "Examples": "input_pipelines.examples",
    "MultiLossModel": "trainer.keras_model.model",
    "Run": "trainer.api.run",
    "aggregate": "trainer.combine.aggregation",
    "compare": "trainer.compare",
    "describe": "trainer.describe",
    "load_run": "trainer.api.run",
    "train": "trainer.api.training",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    """Tells Keras where the classes are that its files name, without loading them."""
    keras = importlib.import_module("keras")
    for name in ("MultiLossModel", "WrappedModel"):
        keras.saving.register_keras_serializable(package="trainer", name=name)(_ClassOfFiles(name))


class _ClassOfFiles:
    """A class of `trainer.keras_model.model` that is loaded when a file names it; then it takes this one's place."""

    def __init__(self, name: str):
        self.name = name

    def from_config(self, config: dict[str, Any]) -> Any:
        """The model that a file describes."""
        return getattr(importlib.import_module("trainer.keras_model.model"), self.name).from_config(config)


after_import.call("keras", _register)
