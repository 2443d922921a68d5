"""Combinations of gradients brought to unit length. Each returns (K,) float64 weights."""

from __future__ import annotations

import dataclasses

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import Card, LooksAt, Method, OneOf, options
from trainer.combine.problem import Problem, uniform
from trainer.common import schema
from trainer.common.schema import setting

_SMALLEST_SQUARE = 1e-12  # as `tf.nn.l2_normalize` has it


def rows(problem: Problem) -> tf.Tensor:
    """`normalized`: the mean of unit-length gradients over all shared variables; a zero gradient stays zero."""
    return mean_of_unit_rows(problem)


def variables(problem: Problem) -> tf.Tensor:
    """`normalized` with `per_variable`: g / √max(‖g‖², 1e-12) for one variable, averaged over its losses."""
    squares = tf.linalg.diag_part(problem.gramian)
    return uniform(problem.active) * tf.math.rsqrt(tf.maximum(squares, _SMALLEST_SQUARE))


def mean_of_unit_rows(problem: Problem) -> tf.Tensor:
    """1 / (K ‖gₖ‖), 0 for a gradient of zero: also what methods fall back to where their problem has no solution."""
    norms = tf.sqrt(tf.linalg.diag_part(problem.gramian))
    return uniform(problem.active) * tf.math.reciprocal_no_nan(norms)


_ROWS = Method(
    function=rows,
    looks_at=LooksAt.GRAMIAN,
    summary="mean of unit-length gradients, over all shared variables or per variable",
    options=options(
        "normalized",
        per_variable=setting(
            schema.boolean, False, "every variable on its own, task-specific ones too", OneOf((False, True))
        ),
    ),
    card=Card(
        formula=(
            "Σ gₖ / (K ‖gₖ‖); with `per_variable`, for each variable Σ gₖ / √max(‖gₖ‖², 1e-12) / k over the k losses "
            "that reach it"
        ),
        work="K norms",
        use=(
            "Gradients of very different lengths, and all losses matter alike: the simplest way to balance them in "
            "every step."
        ),
        avoid="A loss has fallen as far as it can: what is left of its gradient is made as long as any other.",
        differences="There is no authors' code.",
    ),
)

_VARIABLES = dataclasses.replace(
    _ROWS,
    function=variables,
    looks_at=LooksAt.BLOCK_GRAMIANS,
    per_variable=True,
    mixes_task_specific=True,
)
NORMALIZED = dataclasses.replace(_ROWS, variants={"per_variable": _VARIABLES})
