"""The input of a combination method, `Problem`, and its output, `Answer`; and arithmetic that methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from trainer.combine import lazy_tensorflow as tf

SMOOTHED = "smoothed"  # the name, in the state, of the coefficients that smoothing has kept
State: TypeAlias = "Mapping[str, tf.Tensor]"


class Problem(NamedTuple):
    """One step's K x K problem; the same numbers on every replica.

    Attributes:
      active: (K,) bool; a loss without a labelled example in the global batch, not due in this step, or of weight 0, is
        inactive.
      loss_weights: (K,) float64, the configuration's weights.
      losses: (K,) float64, the losses of the global batch; 0 where inactive; None for methods that do not look at them.
      gramian: (K, K) float64, inner products of the losses' gradients, zeros where inactive (of a method that looks
        at two batches: of the gradients over the first with those over the second); None where not looked at.
      seed: (2,) int32, a stateless seed of this run and step.
      step: scalar int64, number of the step, from 0.
      epoch: scalar int64, number of the epoch that the step's first example belongs to, from 0.
      compiled: whether the problem is solved within a loop that XLA compiles.
    """

    active: tf.Tensor
    loss_weights: tf.Tensor
    losses: tf.Tensor | None
    gramian: tf.Tensor | None
    seed: tf.Tensor
    step: tf.Tensor
    epoch: tf.Tensor
    compiled: bool = False


class Answer(NamedTuple):
    """The output of a method that remembers something or may have no solution; others return the coefficients alone.

    Attributes:
      coefficients: (K,) float64, the factors with which the gradients are applied; or (K, K), in row i the factors of
        all gradients in the mixed gradient of loss i. Entries of inactive losses do not matter.
      state: what the method remembers afterwards, with the keys, shapes and dtypes of its initial state.
      fell_back: scalar bool, whether the problem had no solution.
    """

    coefficients: tf.Tensor
    state: State = {}  # noqa: RUF012 (read only)
    fell_back: tf.Tensor | bool = False


def unit_gramian(gramian: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines (K, K) and norms (K,) from a Gramian; rows and columns of zero where a norm is 0."""
    norms = tf.sqrt(tf.linalg.diag_part(gramian))
    inverse = tf.math.reciprocal_no_nan(norms)
    return gramian * inverse[:, tf.newaxis] * inverse, norms


def masked_softmax(values: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Softmax (K,) of the active entries of (K,) values; 0 elsewhere."""
    return tf.where(active, tf.nn.softmax(tf.where(active, values, values.dtype.min)), 0.0)


def count(active: tf.Tensor) -> tf.Tensor:
    """Number of active losses, scalar float64."""
    return tf.reduce_sum(tf.cast(active, tf.float64))


def uniform(active: tf.Tensor) -> tf.Tensor:
    """(K,) float64 with 1 / (number of active losses) at each of them, 0 elsewhere."""
    return tf.math.divide_no_nan(tf.cast(active, tf.float64), count(active))


def preference(given: Sequence[float] | None, active: tf.Tensor) -> tf.Tensor:
    """(K,) float64: the preference `given` (None: 1/K each); what inactive losses would have goes to the others."""
    if given is None:
        return uniform(active)
    values = tf.constant(given, tf.float64)
    left = tf.where(active, values, 0.0)
    return left * tf.math.divide_no_nan(tf.reduce_sum(values), tf.reduce_sum(left))


def where_active(active: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """`new` at active losses, (K,), or pairs of them, (K, K); `old` elsewhere. A single number is that of no loss."""
    if new.shape.rank == 0:
        return new
    return tf.where(active if new.shape.rank == 1 else active & active[:, tf.newaxis], new, old)
