"""Adam for the few numbers that a combination learns, as a pure function. https://arxiv.org/abs/1412.6980

Every number has its own count of updates: one whose loss is inactive stays what it is, and its moments too.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.combine import lazy_tensorflow as tf

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def initial(count: int) -> dict[str, tf.Tensor]:
    """The moments of (count,) numbers before their first update."""
    zeros = tf.zeros([count], tf.float64)
    return {"adam_mean": zeros, "adam_square": zeros, "adam_updates": zeros}


def update(
    values: tf.Tensor,
    gradient: tf.Tensor,
    state: Mapping[str, tf.Tensor],
    *,
    learning_rate: float,
    decay: float = 0.0,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """One update.

    Args:
      values: (K,) float64.
      gradient: (K,) float64.
      state: the moments.
      learning_rate: step size.
      decay: L2 decay, added to the gradient (coupled, as PyTorch's Adam has it).

    Returns:
      The values and the moments afterwards.
    """
    gradient += decay * values
    updates = state["adam_updates"] + 1
    mean = _BETA_1 * state["adam_mean"] + (1 - _BETA_1) * gradient
    square = _BETA_2 * state["adam_square"] + (1 - _BETA_2) * tf.square(gradient)
    direction = mean / (1 - _BETA_1**updates) / (tf.sqrt(square / (1 - _BETA_2**updates)) + _EPSILON)
    return values - learning_rate * direction, {"adam_mean": mean, "adam_square": square, "adam_updates": updates}
