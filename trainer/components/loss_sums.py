"""The values of one loss, their labels, and the sums that make a global mean of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.components import labels

COLUMNS = 4  # of `of_examples`


class LossSums(NamedTuple):
    """One replica's sums of one loss; each a scalar of the loss's dtype.

    Attributes:
      loss_sum: Σ w·ℓ.
      weight_sum: Σ w (the number of values where there are no weights).
      values_per_example: number of values per example.
      left: number of values that masks and ignored classes leave; None where they take nothing out.
    """

    loss_sum: tf.Tensor
    weight_sum: tf.Tensor
    values_per_example: tf.Tensor
    left: tf.Tensor | None = None

    def where(self, condition: tf.Tensor) -> "LossSums":
        """The sums, exact zeros where the scalar bool does not hold, whatever they are there."""
        return self._replace(
            loss_sum=tf.where(condition, self.loss_sum, 0),
            weight_sum=tf.where(condition, self.weight_sum, 0),
            left=None if self.left is None else tf.where(condition, self.left, 0),
        )


class LossValues(NamedTuple):
    """One loss's values over a replica's part of the batch.

    Attributes:
      values: one for each label, (examples, ...).
      weights: the weights of the labels by the data, without masks; None: 1.
      of_classes: the weights of the labels' classes; None: 1.
      unmasked: bool, False where Keras masks a step or the class is ignored; None: nothing can be masked.
    """

    values: tf.Tensor
    weights: tf.Tensor | None
    of_classes: tf.Tensor | None
    unmasked: tf.Tensor | None

    @property
    def labels(self) -> tf.Tensor | None:
        """The weight of every label, 0 where there is none, of a shape that fits the values from the left; None: 1.

        Weights of classes are the loss's alone: metrics do not know them, as in Keras.
        """
        return labels.product((self.weights, self.unmasked), self.values.dtype)

    def label_count(self, part: tf.Tensor | None = None) -> tf.Tensor:
        """Scalar int64, the number of values whose label has a weight above 0; `part` is that of `sums`."""
        counted = labels.product((self.labels, part), self.values.dtype)
        if counted is None:
            return tf.size(self.values, tf.int64)
        return tf.math.count_nonzero(labels.broadcast(counted, self.values))

    def left(self, part: tf.Tensor | None = None) -> tf.Tensor:
        """Scalar, the number of values that masks leave; `part` is that of `sums`."""
        counted = labels.product((self.unmasked, part), self.values.dtype)
        if counted is None:
            return tf.cast(tf.size(self.values), self.values.dtype)
        return tf.reduce_sum(labels.broadcast(counted, self.values))


def of_values(found: LossValues, part: tf.Tensor | None = None, *, gradient_of_all: bool = False) -> LossSums:
    """The sums of a loss's values over a part of them, as `sums` has it, perhaps with the gradient of the whole sum."""
    values, unmasked = found.values, found.unmasked
    known = values.shape[1:].num_elements()
    values_per_example = tf.cast(tf.reduce_prod(tf.shape(values)[1:]) if known is None else known, values.dtype)
    weights = labels.product((found.weights, found.of_classes, unmasked, part), values.dtype)
    if weights is None:
        return LossSums(tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype), values_per_example)
    counted = labels.broadcast(weights, values)
    if unmasked is not None:
        # What a masked step holds may be no number, and 0 · NaN is NaN. The gradient of `tf.where` takes more
        # operations, as that can broadcast.
        values = tf.raw_ops.Select(condition=labels.broadcast(unmasked, values), x=values, y=tf.zeros_like(values))
    only_masked = found.weights is None and found.of_classes is None and part is None
    loss_sum = tf.reduce_sum(values if only_masked else counted * values)
    if part is not None and gradient_of_all:
        loss_sum = _with_gradient_of(of_values(found).loss_sum, loss_sum)
    left = None if unmasked is None else found.left(part)
    return LossSums(loss_sum, tf.reduce_sum(counted), values_per_example, left)


def of_examples(found: LossValues) -> tf.Tensor:
    """(examples, 4) float64, of each example Σ w·ℓ, Σ w, the number of values that masks leave, and that of labels."""
    values, ones = tf.cast(found.values, tf.float64), tf.ones_like(found.values)
    weights = labels.product((found.weights, found.of_classes, found.unmasked), found.values.dtype)
    columns = [
        ones if counted is None else labels.broadcast(counted, ones)
        for counted in (weights, None if found.unmasked is None else tf.cast(found.unmasked, ones.dtype), found.labels)
    ]
    counted, left, labelled = (tf.cast(column, tf.float64) for column in columns)
    loss_sum = counted * tf.where(left > 0, values, tf.zeros_like(values))
    per_label = tf.stack([loss_sum, counted, left, tf.cast(labelled > 0, tf.float64)], axis=-1)
    return tf.reduce_sum(per_label, axis=tuple(range(1, found.values.shape.rank)))


def over_parts(sums: Sequence[LossSums], count: int) -> tuple[LossSums, ...]:
    """The sums of `count` losses over all parts of a batch, from those over the first part, the second and so on."""
    if len(sums) == count:
        return tuple(sums)
    parts = [sums[first : first + count] for first in range(0, len(sums), count)]
    return tuple(_added(of_loss) for of_loss in zip(*parts, strict=True))


def _added(sums: Sequence[LossSums]) -> LossSums:
    loss_sums, weight_sums, values_per_example, left = zip(*sums, strict=True)
    left = None if left[0] is None else tf.add_n(left)
    return LossSums(tf.add_n(loss_sums), tf.add_n(weight_sums), values_per_example[0], left)


@tf.custom_gradient
def _with_gradient_of(objective: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """`value`, with the gradient of `objective`."""
    return tf.identity(value), lambda upstream: (upstream, None)
