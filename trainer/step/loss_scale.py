"""Dynamic loss scaling for float16: one scale for all losses. https://arxiv.org/abs/1710.03740"""

import math
from typing import NamedTuple

import tensorflow as tf

INITIAL = 2.0**15
_LARGEST = 2.0**24
_DOUBLED_AFTER = 2000  # steps, as Keras' LossScaleOptimizer has it


class LossScale(NamedTuple):
    """By how much losses are multiplied for their backward passes.

    Attributes:
      scale: scalar float32, a power of two: of the losses' means.
      good_steps: scalar int64, finite steps since the scale last changed.
    """

    scale: tf.Tensor
    good_steps: tf.Tensor

    def of_sums(self, batch_size: int) -> tf.Tensor:
        """The scale for sums over a batch, which are larger than means by about its size: scalar float32."""
        return self.scale * 2.0 ** -math.ceil(math.log2(batch_size))

    def overflowed(self, losses: tf.Tensor, finite: tf.Tensor) -> tf.Tensor:
        """Whether a smaller scale may help: the (K,) losses are finite, the gradients are not, and it is above 1."""
        return ~finite & tf.reduce_all(tf.math.is_finite(losses)) & (self.scale > 1)

    def after(self, finite: tf.Tensor) -> "LossScale":
        """Halved after a step that was not finite (scalar bool), doubled after enough that were."""
        enough = self.good_steps + 1 >= _DOUBLED_AFTER
        scale = tf.where(enough, tf.minimum(self.scale * 2, _LARGEST), self.scale)
        return LossScale(
            tf.where(finite, scale, tf.maximum(self.scale / 2, 1.0)),
            tf.where(finite & ~enough, self.good_steps + 1, 0),
        )


def initial() -> LossScale:
    """The scale that a run starts with."""
    return LossScale(tf.constant(INITIAL, tf.float32), tf.constant(0, tf.int64))
