"""Losses of embeddings: examples of one class are to be near one another, those of others far.

Both compare examples with one another (`losses.<name>.over`). The target says which are alike: class indices, or any
numbers that are equal as floats (of whole numbers float32 tells those up to 2^24 apart). NaN is no label.
"""

from typing import Any

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.components.own_loss import OwnLoss


@keras.saving.register_keras_serializable("trainer")
class Contrastive(OwnLoss):
    """Supervised contrastive loss (Khosla 2020); with a target of its own for each pair of views that of SimCLR.

    Embeddings are scaled to length 1. With z·z' for the inner products, an example's value is the mean over the others
    p with its target of

        -log(exp(z·z_p / temperature) / Σ_a exp(z·z_a / temperature)),  a: all other examples

    and 0 where no other has its target. https://arxiv.org/abs/2004.11362

    Args:
      temperature: above 0.
      name, reduction, dtype: as of every Keras loss.
    """

    leaves_out_nan = True

    def __init__(
        self,
        temperature: float = 0.1,
        name: str = "contrastive",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.temperature = schema.number(positive=True)(temperature, "temperature")
        super().__init__(name, reduction, dtype, temperature=self.temperature)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        alike, different = _pairs(y_true, y_pred)
        units = _of_length_one(y_pred)
        similarities = tf.matmul(units, units, transpose_b=True) / self.temperature
        others = tf.where(alike | different, similarities, similarities.dtype.min / 2)
        whole = tf.reduce_logsumexp(others, -1, keepdims=True)
        return _mean(whole - similarities, alike)


@keras.saving.register_keras_serializable("trainer")
class TripletSemihard(OwnLoss):
    """Triplet loss with semi-hard negatives (Schroff 2015, FaceNet).

    Of squared distances d, an example a has the mean over the others p with its target of

        max(d(a, p) - d(a, n) + margin, 0)

    where n is the nearest example of another target that is farther from a than p; without one, the farthest of them.
    It is 0 where no other has its target or all have. End the head with `UnitNormalization` for embeddings of length 1,
    as in the paper. https://arxiv.org/abs/1503.03832

    Args:
      margin: at least 0.
      name, reduction, dtype: as of every Keras loss.
    """

    leaves_out_nan = True

    def __init__(
        self,
        margin: float = 1.0,
        name: str = "triplet_semihard",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.margin = schema.number()(margin, "margin")
        super().__init__(name, reduction, dtype, margin=self.margin)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One value per example."""
        alike, different = _pairs(y_true, y_pred)
        distances = _squared_distances(y_pred)
        negatives = tf.stop_gradient(tf.where(different, distances, distances.dtype.max))
        order = tf.argsort(negatives, axis=-1)  # each example's negatives by distance, then all others
        in_order = tf.gather(negatives, order, batch_dims=1)
        count = tf.reduce_sum(tf.cast(different, tf.int32), -1, keepdims=True)
        nearer = tf.raw_ops.UpperBound(sorted_inputs=in_order, values=tf.stop_gradient(distances), out_type=tf.int32)
        place = tf.maximum(tf.minimum(nearer, count - 1), 0)
        of_negative = tf.gather(distances, tf.gather(order, place, batch_dims=1), batch_dims=1)
        return _mean(tf.nn.relu(distances - of_negative + self.margin), alike & (count > 0))


def _pairs(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two (n, n) bool: whether another example has the same target; whether it has another one."""
    if y_pred.shape.rank != 2 or y_true.shape.rank > 2:
        raise ValueError("an embedding must have one axis, and a target one axis or none")
    targets = y_true if y_true.shape.rank == 2 else y_true[:, tf.newaxis]
    same = tf.reduce_all(targets[:, tf.newaxis] == targets[tf.newaxis], -1)
    there = tf.reduce_all(targets == targets, -1)  # False for NaN
    return same & ~tf.eye(tf.shape(targets)[0], dtype=tf.bool), ~same & there & there[:, tf.newaxis]


def _of_length_one(y_pred: tf.Tensor) -> tf.Tensor:
    """Every embedding divided by its length, whatever that is; one of zeros stays."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(y_pred), -1, keepdims=True))
    scaled = tf.math.divide_no_nan(y_pred, largest)
    return scaled * tf.math.rsqrt(tf.maximum(tf.reduce_sum(tf.square(scaled), -1, keepdims=True), 1e-12))


def _squared_distances(y_pred: tf.Tensor) -> tf.Tensor:
    """(n, n), computed about the mean of all embeddings, where less is lost to rounding."""
    centred = y_pred - tf.stop_gradient(tf.reduce_mean(y_pred, 0, keepdims=True))
    squares = tf.reduce_sum(tf.square(centred), -1)
    products = tf.matmul(centred, centred, transpose_b=True)
    return tf.maximum(squares[:, tf.newaxis] + squares[tf.newaxis] - 2 * products, 0)


def _mean(values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """(n,), the mean of each row over what counts in it; 0 where nothing does."""
    total = tf.reduce_sum(tf.where(counted, values, 0), -1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(counted, values.dtype), -1))
