"""The one cross-replica sum of a step."""

from typing import Any

import tensorflow as tf


def all_reduce_sum(values: Any) -> Any:
    """Sums a structure of tensors across replicas; call it in replica context.

    Args:
      values: a structure of dense tensors, of the same shapes on every replica.

    Returns:
      The same structure with the sums, on every replica. All tensors of one dtype travel in one packed collective.
    """
    context = tf.distribute.get_replica_context()
    flat = tf.nest.flatten(values)
    reduced = list(flat)
    for dtype in dict.fromkeys(value.dtype for value in flat):  # a collective cannot pack several dtypes
        positions = [i for i, value in enumerate(flat) if value.dtype == dtype]
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, [flat[i] for i in positions])
        for i, value in zip(positions, sums, strict=True):
            reduced[i] = value
    return tf.nest.pack_sequence_as(values, reduced)
