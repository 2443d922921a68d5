"""The variables that traced functions read or change, whoever made them, and the values that they had."""

import copy
from collections.abc import Iterable
from typing import Any

import tensorflow as tf


class CapturedValues:
    """The values, in the host's memory, of all variables that functions capture, on every device of this process.

    Args:
      functions: concrete functions.
    """

    def __init__(self, functions: Iterable[tf.types.experimental.ConcreteFunction]):
        captured = {id(each): each for function in functions for each in function.captured_inputs}
        # A variable that is only assigned to is not among a function's `variables`; its handle is among these.
        kinds = [(each, _dtype(each)) for each in captured.values() if each.dtype == tf.resource]
        self._values = [
            (handle, copy.copy(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy()), dtype)
            for handle, dtype in kinds
            if dtype is not None
        ]

    def restore(self) -> None:
        """Gives the variables these values again."""
        for handle, value, dtype in self._values:
            tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value, dtype))


def _dtype(handle: Any) -> tf.DType | None:
    """The type of a variable, by its handle; None where that is of something else, such as a table."""
    data = handle._handle_data
    return tf.as_dtype(data.shape_and_type[0].dtype) if data is not None and data.is_set else None
