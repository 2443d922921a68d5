"""The two halves of a global batch: its even and its odd positions, whatever the number of replicas."""

import dataclasses

import tensorflow as tf

from trainer.gradients.reach import Jacobian, Reach


def masks(positions: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """1 for the examples of the even and of the odd half, 0 for others.

    Args:
      positions: (examples,) integers, those of a replica's examples in the global batch.
      dtype: of the masks.

    Returns:
      Two (examples,) tensors.
    """
    odd = tf.cast(positions % 2, dtype)
    return 1 - odd, odd


def sizes(batch_size: int) -> tuple[int, int]:
    """Returns the number of examples in each half of a global batch."""
    return batch_size - batch_size // 2, batch_size // 2


def doubled(reach: Reach, count: int) -> Reach:
    """The reach of 2 K losses, which are K losses over one half and then the same over the other."""
    return dataclasses.replace(reach, losses=tuple((*by, *(k + count for k in by)) for by in reach.losses))


def folded(jacobian: Jacobian, reach: Reach) -> Jacobian:
    """The gradients of 2 K losses with the two halves' task-specific ones added up."""
    return tuple(rows if len(by) > 1 else (rows[0] + rows[1],) for rows, by in zip(jacobian, reach.losses, strict=True))


def first(jacobian: Jacobian, reach: Reach) -> Jacobian:
    """The folded gradients over the first half, and the task-specific ones."""
    return tuple(rows[: len(by)] for rows, by in zip(jacobian, reach.losses, strict=True))


def of_folded(reach: Reach, count: int) -> Reach:
    """Returns the reach whose losses, of 2 K, are those of each row of folded gradients; task-specific ones of K."""
    both = doubled(reach, count).losses
    return dataclasses.replace(
        reach, losses=tuple(two if len(by) > 1 else by for two, by in zip(both, reach.losses, strict=True))
    )
