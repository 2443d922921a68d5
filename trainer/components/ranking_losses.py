"""Losses of an order: of the items of each example, along the last axis, or of the examples themselves."""

from typing import Any

import keras
import tensorflow as tf

from trainer.components.own_loss import OwnLoss, like

_FAR_BELOW = -1e30  # in place of a score that takes no part: its exponential is 0, and it is finite


@keras.saving.register_keras_serializable("trainer")
class PairwiseLogistic(OwnLoss):
    """Logistic loss of pairs that should be in the order of their targets, RankNet (Burges 2005).

    With scores s and targets y a pair (i, j) with y_i > y_j has the loss log(1 + exp(s_j - s_i)).

    - A head of several numbers gives the scores of each example's items, and the value is the mean over their pairs.
    - A head of one number gives the scores of the examples, which are compared with one another
      (`losses.<name>.over`): an example's value is the mean over the pairs to which it belongs.

    What has the target NaN takes no part. Without a pair the value is 0. https://doi.org/10.1145/1102351.1102363

    Args:
      name, reduction, dtype: as of every Keras loss.
    """

    leaves_out_nan = True

    def __init__(self, name: str = "pairwise_logistic", reduction: str = "sum_over_batch_size", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        y_true = like(y_true, y_pred)
        if y_pred.shape.rank > 1 and y_pred.shape[-1] == 1:
            y_true, y_pred = y_true[..., 0], y_pred[..., 0]
        above = tf.sign(y_true[..., :, tf.newaxis] - y_true[..., tf.newaxis, :])
        is_pair = tf.abs(above) > 0  # False for NaN
        lead = tf.where(is_pair, above, 0) * (y_pred[..., :, tf.newaxis] - y_pred[..., tf.newaxis, :])
        values = tf.where(is_pair, tf.nn.softplus(-lead), 0)
        axes = -1 if y_pred.shape.rank == 1 else (-2, -1)
        return tf.math.divide_no_nan(tf.reduce_sum(values, axes), tf.reduce_sum(tf.cast(is_pair, values.dtype), axes))


@keras.saving.register_keras_serializable("trainer")
class SoftmaxRanking(OwnLoss):
    """Cross-entropy between relevance and the softmax of the scores of each example's items (Bruch 2019).

    The items are those of the last axis. With scores s and relevances y of at least 0 the value is

        -Σ_i y_i / (Σ_j y_j) · log softmax(s)_i

    and 0 where nothing is relevant. An item whose target is NaN or below 0 takes no part, as the padding of a list.
    https://doi.org/10.1145/3341981.3344221

    Args:
      name, reduction, dtype: as of every Keras loss.
    """

    leaves_out_nan = True

    def __init__(self, name: str = "softmax_ranking", reduction: str = "sum_over_batch_size", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        y_true = like(y_true, y_pred)
        is_item = y_true >= 0  # False for NaN
        relevance = tf.where(is_item, y_true, 0)
        share = tf.math.divide_no_nan(relevance, tf.reduce_sum(relevance, -1, keepdims=True))
        whole = tf.reduce_logsumexp(tf.where(is_item, y_pred, _FAR_BELOW), -1, keepdims=True)
        return tf.reduce_sum(tf.where(share > 0, share * (whole - y_pred), 0), -1)
