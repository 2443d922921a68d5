"""The gradients that a combination looks at and mixes, from reduced sums of gradients."""

from typing import NamedTuple

import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.combine.problem import Problem
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import half_batches
from trainer.gradients.moving_average import MovingRows
from trainer.gradients.reach import Jacobian, Reach


class Rows(NamedTuple):
    """The gradients that a combination mixes.

    Attributes:
      mixed: per variable, one for every loss that reaches it.
      means: (K,) float64, what makes means of those of shared variables.
      gramian: (K, K) float64, what the combination looks at, where it looks at a Gramian.
      plain_gramian: (K, K) float64, of the losses' whole gradients, where it is known.
      moved: the new moving averages of the gradients, where those are mixed.
    """

    mixed: Jacobian
    means: tf.Tensor
    gramian: tf.Tensor | None
    plain_gramian: tf.Tensor | None
    moved: Jacobian = ()


def of(
    jacobian: Jacobian,
    means: tf.Tensor,
    mean: tf.Tensor,
    problem: Problem,
    combination: Combination,
    reach: Reach,
    moving_rows: MovingRows | None,
) -> Rows:
    """The gradients themselves, those over the first half of the batch, or their moving averages.

    Args:
      jacobian: per variable of `reach`, reduced sums of gradients; over two halves, as `halves.folded` gives them.
      means: (1, K) or (2, K) float64, what makes means of the sums over the batch or over its halves.
      mean: (K,) float64, what makes means of those over the batch.
      problem: the problem, without a Gramian.
      combination: the combination.
      reach: which losses reach which variable.
      moving_rows: the moving averages of the gradients, where the combination mixes those.
    """
    if combination.of_two_batches:
        return _of_halves(jacobian, means, mean, reach)
    if moving_rows is not None:
        factors = mean * combination.row_scales(problem.weights, problem.losses)
        return _of_averages(jacobian, moving_rows.moved(jacobian, factors, problem.active), reach, mean)
    gramian = gramian_lib.of_shared(jacobian, reach, mean) if combination.needs_gramian else None
    return Rows(jacobian, mean, gramian, gramian)


def _of_halves(jacobian: Jacobian, means: tf.Tensor, mean: tf.Tensor, reach: Reach) -> Rows:
    count = mean.shape[0]
    both = gramian_lib.of_shared(jacobian, half_batches.of_folded(reach, count), tf.ones([2 * count], tf.float64))
    cross = both[:count, count:] * means[0][:, tf.newaxis] * means[1]
    plain = tf.reduce_sum(tf.reshape(both, [2, count, 2, count]), axis=[0, 2])
    return Rows(half_batches.first(jacobian, reach), means[0], cross, gramian_lib.scaled(plain, mean))


def _of_averages(jacobian: Jacobian, moved: Jacobian, reach: Reach, mean: tf.Tensor) -> Rows:
    mixed = list(jacobian)
    for v, rows in zip(reach.shared, moved, strict=True):
        mixed[v] = rows
    ones = tf.ones_like(mean)
    return Rows(tuple(mixed), ones, gramian_lib.of_shared(tuple(mixed), reach, ones), None, moved)
