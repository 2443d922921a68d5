"""Combination methods: how the gradients of several losses become one update.

`aggregate` runs any of them on a plain matrix, without a model. Importing this package does not load TensorFlow.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "aggregate":
        from trainer.combine.aggregation import aggregate  # the registry beside it must not wait for TensorFlow

        return aggregate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
