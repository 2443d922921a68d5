"""A loss that teaches a head what another model predicts."""

from typing import Any

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.components.own_loss import OwnLoss, like


@keras.saving.register_keras_serializable("trainer")
class Distillation(OwnLoss):
    """Divergence from a teacher's softened probabilities (Hinton 2015).

    The target has the teacher's logits t, the head gives logits s, one for each class on the last axis. With the
    temperature T, p = softmax(t / T) and q = softmax(s / T) the value is T² Σ p log(p / q): its gradient is that of the
    cross-entropy, and it is 0 where both agree. Metrics compare softmax(s) with softmax(t).
    https://arxiv.org/abs/1503.02531

    Args:
      temperature: above 0.
      name, reduction, dtype: as of every Keras loss.
    """

    changes_metrics = True

    def __init__(
        self,
        temperature: float = 2.0,
        name: str = "distillation",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.temperature = schema.number(positive=True)(temperature, "temperature")
        super().__init__(name, reduction, dtype, temperature=self.temperature)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        logits = like(y_true, y_pred) / self.temperature
        of_teacher, of_head = tf.nn.log_softmax(logits), tf.nn.log_softmax(y_pred / self.temperature)
        return self.temperature**2 * tf.reduce_sum(tf.exp(of_teacher) * (of_teacher - of_head), -1)

    def metric_target(self, y_true: tf.Tensor) -> tf.Tensor:
        """The teacher's probabilities."""
        return tf.nn.softmax(y_true)

    def metric_prediction(self, y_pred: tf.Tensor) -> tf.Tensor:
        """The head's probabilities."""
        return tf.nn.softmax(y_pred)
