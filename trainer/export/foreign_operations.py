"""Operations that an exported graph cannot have: calls of Python, and random numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation import operations
from input_pipelines.preparation.preparation import Preparation
from trainer.common.errors import ConfigError

_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_NO_OTHER_PROCESS = "calls Python (tf.py_function or tf.numpy_function), which no other process has"
_DRAWS = "Random"  # in the types of operations


def refuse(function: Any, name: str) -> None:
    """Raises ConfigError where a concrete function, to be exported in the format `name`, has one of them."""
    for node, operation in _nodes(function.graph.as_graph_def()):
        if operation in _PYTHON:
            reason = f"{_NO_OTHER_PROCESS}, in {node}; use operations of TensorFlow or Keras there"
            raise ConfigError("--format", name, f"is no format for this run: its model {reason}")
        if _DRAWS in operation:
            reason = f"draws random numbers when it predicts, in {node}: it does not answer the same each time"
            raise ConfigError("--format", name, f"is no format for this run: its model {reason}")


def refuse_in_preparation(preparation: Preparation) -> None:
    """Raises ConfigError for the first operation on inputs that calls Python."""
    for chain in preparation.inputs.values():
        empty = {
            feature: np.zeros((0, *preparation.source[feature].shape), preparation.source[feature].dtype.as_numpy_dtype)
            for feature in chain.features
        }
        values, learned = chain.values(empty), preparation.statistics[chain.field]
        for index, operation in enumerate(chain.operations):
            spec = tf.TensorSpec((None, *values.shape[1:]), values.dtype)
            traced = tf.function(operation, autograph=False).get_concrete_function(spec, learned[index])
            if any(found in _PYTHON for _, found in _nodes(traced.graph.as_graph_def())):
                field, own = f"{chain.field}.prepare.{index}", operations.name_of(operation)
                raise ConfigError(field, own, f"{_NO_OTHER_PROCESS}; use operations of TensorFlow in it")
            values = traced.structured_outputs


def _nodes(graph: tf.compat.v1.GraphDef) -> Iterator[tuple[str, str]]:
    """(name, type) of every operation of a graph and of the functions in it."""
    for nodes in (graph.node, *(each.node_def for each in graph.library.function)):
        yield from ((node.name, node.op) for node in nodes)
