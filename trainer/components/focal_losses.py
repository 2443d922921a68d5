"""Cross-entropies that count examples for less the better they are predicted."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.components.own_loss import OwnLoss
from trainer.components.predictions import with_mask


@keras.saving.register_keras_serializable("trainer")
class SparseCategoricalFocalCrossentropy(OwnLoss):
    """Focal cross-entropy of class indices (Lin 2017); of one-hot targets it is Keras' categorical one.

    With p the probability of the target's class the value is -α (1 - p)^γ log p. https://arxiv.org/abs/1708.02002

    Args:
      alpha: α, a number or a list with one for each class.
      gamma: γ; 0 makes it α times the cross-entropy.
      from_logits: whether predictions are logits rather than probabilities.
      ignore_class: an index that stands for no label; None: none does.
      name, reduction, dtype: as of every Keras loss.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "sparse_categorical_focal_crossentropy",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.alpha = schema.one_or_each(schema.number())(alpha, "alpha")
        self.gamma = schema.number()(gamma, "gamma")
        self.from_logits = schema.boolean(from_logits, "from_logits")
        self.ignore_class = ignore_class
        super().__init__(
            name,
            reduction,
            dtype,
            alpha=self.alpha,
            gamma=self.gamma,
            from_logits=from_logits,
            ignore_class=ignore_class,
        )

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example, with a mask where a class is ignored."""
        count = y_pred.shape[-1]
        if isinstance(self.alpha, list) and len(self.alpha) != count:
            raise ValueError(f"alpha has {len(self.alpha)} numbers, but there are {count} classes")
        target = tf.cast(y_true, tf.int64)
        target = target[..., 0] if target.shape.rank == y_pred.shape.rank else target
        there = None if self.ignore_class is None else target != self.ignore_class
        target = target if there is None else tf.where(there, target, 0)
        if not self.from_logits:
            y_pred = tf.math.log(tf.clip_by_value(y_pred, keras.config.epsilon(), 1))
        is_target = tf.one_hot(target, count, on_value=True, off_value=False, dtype=tf.bool)
        whole = tf.reduce_logsumexp(y_pred, -1)
        log_of_target = tf.reduce_sum(tf.where(is_target, y_pred, 0), -1) - whole
        # log(1 - p), so that no power of a number near 0 is taken, whose gradient is infinite where gamma is below 1.
        log_of_others = tf.reduce_logsumexp(tf.where(is_target, y_pred.dtype.min / 2, y_pred), -1) - whole
        alpha = (
            self.alpha if isinstance(self.alpha, float) else tf.gather(tf.constant(self.alpha, y_pred.dtype), target)
        )
        values = -alpha * tf.exp(self.gamma * log_of_others) * log_of_target
        if there is None:
            return values
        return with_mask(tf.where(there, values, 0), there)
