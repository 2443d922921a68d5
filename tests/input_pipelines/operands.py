"""Application of operations to arrays in tests."""

from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation import operations
from trainer.common import schema

RANDOM = np.random.RandomState(0)
NUMBERS = RANDOM.normal(3, 2, size=(50, 4))
PICTURES = RANDOM.randint(0, 256, size=(5, 8, 6, 3)).astype(np.uint8)
WORDS = np.array([b"b", b"a", b"c", b"a", b"b", b"a", b""], object)


def name(value: Any) -> str:
    return "" if isinstance(value, np.ndarray) else str(value)


def learn(operation: Any, values: np.ndarray, present: np.ndarray, chunks: int) -> dict[str, Any]:
    if not operations.learns(operation):
        return {}
    collected = None
    for rows in np.array_split(np.arange(len(values)), chunks):
        collected = operation.collect(collected, values[rows], present[rows])
    return operation.learned(collected)


def apply(
    spec: Any,
    values: np.ndarray,
    *,
    training: np.ndarray | None = None,
    present: np.ndarray | None = None,
    chunks: int = 1,
) -> np.ndarray:
    """Returns an operation's result for `values`; it has learned from the `present` ones of `training` (None: all)."""
    checked = schema.sequence(schema.call("name"))([spec], "prepare")
    operation = operations.build(checked, "prepare")[0]
    training = values if training is None else training
    learned = learn(operation, training, np.ones(training.shape, bool) if present is None else present, chunks)
    return operation(tf.constant(values), learned).numpy()
