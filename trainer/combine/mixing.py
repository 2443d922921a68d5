"""Mixing matrices: a step's coefficients, for each variable, and the gradients that are mixed with them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tensorflow as tf

from trainer.combine import random_numbers
from trainer.combine.combination import Combination, Losses
from trainer.combine.entry import LooksAt
from trainer.combine.problem import Problem, where_active
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import layout, ordered_sums
from trainer.gradients.reach import Jacobian

Mixed = TypeVar("Mixed")
_SMALL = 2.0**-100  # factors above this and below its inverse leave float32 room for sums and normalizers


def mixing_matrices(
    combination: Combination,
    jacobian: Jacobian,
    by: Sequence[Losses],
    *,
    normalizers: tf.Tensor,
    shared_normalizers: tf.Tensor,
    problem: Problem,
    coefficients: tf.Tensor | None,
    piece: int = layout.CPU.piece,
) -> tuple[tf.Tensor | None, ...]:
    """Returns, for each variable, the matrix with which its gradients are mixed.

    Args:
      combination: the combination that found the coefficients.
      jacobian: for each variable, the reduced sums of gradients of the losses that reach it.
      by: for each variable, the indices of those k losses.
      normalizers: (K,) float64, the factors that make means of the sums of task-specific gradients.
      shared_normalizers: (K,) float64, the same for shared variables; ones where their gradients are moving averages.
      problem: the problem.
      coefficients: as `Combination.solve` gave them; only looked at for methods that yield some.
      piece: as `gramian.block` has it.

    Returns:
      For each variable a (receivers, k) float64 matrix: row r holds the factors of the variable's k sums in the
      mixed gradient of the r-th receiver. None where they are combined element by element.
    """
    method = combination.method
    scales = combination.scales(problem.loss_weights, problem.losses)
    whole, own_factors = None, scales
    if method.yields_coefficients:
        factors = combination.scales_of_mixed(problem) * shared_normalizers
        own_factors = coefficients * scales if method.weighs_task_specific else scales
        whole = (tf.linalg.diag(coefficients) if method.diagonal else coefficients) * factors
    of_one = tf.unstack(tf.reshape(own_factors * normalizers, [-1, 1, 1]))

    @functools.cache
    def of_losses(losses: Losses) -> tf.Tensor:
        """The matrix of all variables that these losses reach."""
        return tf.gather(tf.gather(whole, combination.receivers(losses)), losses, axis=1)

    result: list[tf.Tensor | None] = []
    for gradients, losses in zip(jacobian, by, strict=True):
        if len(losses) == 1 and not method.mixes_task_specific:
            result.append(of_one[losses[0]])
        elif method.looks_at is LooksAt.ELEMENTS:
            result.append(None)
        elif whole is None:
            result.append(_of_block(combination, gradients, losses, shared_normalizers, problem, scales, piece))
        else:
            result.append(of_losses(losses))
    return tuple(result)


def factors(combination: Combination, by: Sequence[Losses], problem: Problem) -> tuple[tf.Tensor | None, ...]:
    """Returns the factors that complete one backward pass of Σ `scales`ₖ Lₖ.

    For a method with coefficients of its own for every variable.

    Args:
      combination: the method and its options.
      by: for each variable, the indices of the losses that reach it.
      problem: of all losses.

    Returns:
      For every variable the factor of its gradient of the sum, scalar float64; None: 1.
    """
    if not combination.method.per_variable:
        return (None,) * len(by)
    found: dict[Losses, tf.Tensor | None] = {}
    for losses in dict.fromkeys(by):
        if len(losses) == 1:
            found[losses] = None
            continue
        # Nothing tells the active losses of a variable apart, so they have one coefficient.
        found[losses] = tf.reduce_max(combination.answer(_part(problem, losses), {}).coefficients)
    return tuple(found[losses] for losses in by)


def elements(
    combination: Combination,
    gradients: Sequence[tf.Tensor],
    losses: Losses,
    shared_normalizers: tf.Tensor,
    problem: Problem,
    variable: int,
) -> tf.Tensor:
    """The gradients of one shared variable, combined element by element.

    Args:
      combination: the method and its options.
      gradients: the reduced sums of gradients of the losses that reach it.
      losses: the indices of those k losses.
      shared_normalizers: (K,) float64, the factors that make means of the sums.
      problem: the problem.
      variable: a number that tells this variable from all others.
    """
    scales = combination.scales(problem.loss_weights, problem.losses) * shared_normalizers
    scales = tf.unstack(tf.gather(tf.where(problem.active, scales, 0.0), losses))
    scaled = [row * tf.cast(factor, row.dtype) for row, factor in zip(gradients, scales, strict=True)]
    part = _part(problem, losses)._replace(seed=random_numbers.seed_of(problem, variable))
    return combination.method.function(tf.stack(scaled), part, **combination.options)


def joint_coefficients(coefficients: tf.Tensor) -> tf.Tensor:
    """(K,): how much of each loss's gradient is in what is applied jointly, from (K,) or (K, K) coefficients."""
    return coefficients if coefficients.shape.rank == 1 else tf.reduce_sum(coefficients, axis=0)


def with_room(
    combination: Combination,
    dtype: tf.DType,
    matrices: Mapping[Losses, tf.Tensor | None],
    mixed: Callable[[bool], Mixed],
) -> Mixed:
    """Returns what is mixed with factors that gradients of this dtype may be unable to hold.

    A gradient of length 1e-30 can have a coefficient of 1e40, which float32 cannot hold, while their product is an
    ordinary number. Such steps are rare, so that their cost does not matter.

    Args:
      combination: the combination that found the coefficients.
      dtype: of the gradients.
      matrices: as `mixing_matrices` gave them, one for each set of losses; where each variable has coefficients of its
        own, none of them are looked at, because they stay within what float32 can hold.
      mixed: mixes the gradients; in float64 where its argument is True.
    """
    if dtype == tf.float64 or not (combination.method.sees_gramian and combination.method.yields_coefficients):
        return mixed(False)
    sizes = tf.abs(tf.concat([tf.reshape(matrix, [-1]) for matrix in matrices.values()], axis=0))
    fit = tf.reduce_all((sizes == 0.0) | ((sizes > _SMALL) & (sizes < 1.0 / _SMALL)))
    return tf.cond(fit, lambda: mixed(False), lambda: mixed(True))


def weighted(
    combination: Combination, columns: Sequence[Sequence[tf.Tensor]], by: Sequence[Losses], factors: tf.Tensor
) -> list[tf.Tensor]:
    """The sums of several columns of gradients times factors of which the coefficients are part; see `with_room`.

    Args:
      combination: the combination that found the coefficients.
      columns: lists of gradients of one shape each.
      by: for each list, the indices of the losses that its gradients belong to.
      factors: (K,) float64.
    """
    own = {losses: tf.gather(factors, losses) for losses in dict.fromkeys(by)}
    return with_room(
        combination,
        columns[0][0].dtype,
        own,
        lambda wide: [
            ordered_sums.weighted(column, own[losses], wide=wide) for column, losses in zip(columns, by, strict=True)
        ],
    )


def joint(gradients: Sequence[tf.Tensor], matrix: tf.Tensor, *, wide: bool = False) -> tf.Tensor:
    """The sum of a variable's mixed gradients: what one optimizer applies for all losses; `wide`: in float64."""
    if matrix.shape == (1, 1):
        return ordered_sums.weighted(gradients, matrix[0], wide=wide)
    return ordered_sums.weighted(gradients, tf.reduce_sum(matrix, axis=0), wide=wide)


def own(
    gradients: Sequence[tf.Tensor], matrix: tf.Tensor, receiver: int, *, only: int | None = None, wide: bool = False
) -> tf.Tensor:
    """The mixed gradient of one receiver (a row of `matrix`); made of gradient `only` alone where known.

    `wide`: computed in float64.
    """
    if only is not None:
        return ordered_sums.weighted(gradients[only : only + 1], matrix[receiver, only : only + 1], wide=wide)
    return ordered_sums.weighted(gradients, matrix[receiver], wide=wide)


def _of_block(
    combination: Combination,
    gradients: Sequence[tf.Tensor],
    losses: Losses,
    normalizers: tf.Tensor,
    problem: Problem,
    scales: tf.Tensor,
    piece: int,
) -> tf.Tensor:
    """The mixing matrix of one variable on its own."""
    scales = tf.gather(scales * normalizers, losses)
    part = _part(problem, losses)
    if combination.method.looks_at is LooksAt.BLOCK_GRAMIANS:
        part = part._replace(gramian=gramian_lib.scaled(gramian_lib.block(gradients, piece), scales))
    coefficients = combination.answer(part, {}).coefficients
    return tf.linalg.diag(where_active(part.active, coefficients, tf.zeros_like(coefficients)) * scales)


def _part(problem: Problem, losses: Losses) -> Problem:
    """The problem of some of the losses, without a Gramian."""
    return problem._replace(
        active=tf.gather(problem.active, losses),
        loss_weights=tf.gather(problem.loss_weights, losses),
        losses=None,
        gramian=None,
    )
