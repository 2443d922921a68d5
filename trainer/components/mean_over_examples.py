"""A metric that is the mean of a function of any result, as Keras' `compile` takes them."""

import keras
import tensorflow as tf

from trainer.components import loss_calls, loss_values


class MeanOverExamples(keras.metrics.MeanMetricWrapper):
    """The mean over examples of a function, or a loss, that need not return one value for each of them.

    A value that is not one for each example counts as that of all. One for each example counts where all numbers of the
    target have a label.
    """

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch."""
        values = loss_values.of_mean(tf.convert_to_tensor(loss_calls.computed(self._fn, y_true, y_pred)), y_pred)
        rank = values.shape.rank
        if sample_weight is not None and rank is not None and sample_weight.shape.rank > rank:
            sample_weight = tf.reduce_min(sample_weight, axis=list(range(rank, sample_weight.shape.rank)))
        keras.metrics.Mean.update_state(self, values, sample_weight=sample_weight)
