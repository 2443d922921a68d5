"""Combination methods as contenders, and the products of matrices that are the least they need."""

import functools
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from tests.benchmarks.problems import Gradients
from trainer import combine
from trainer.combine import combination as combination_lib
from trainer.combine import mixing
from trainer.combine.problem import Problem
from trainer.gradients import gramian

_VARIABLES = 8


def weights(
    gradients: Gradients, *, method: str, per_call: int, options: Mapping[str, float]
) -> Callable[[int], float]:
    """Times the way from a float64 Gramian to the weights: `per_call` of them in a loop of the graph, as steps are.

    The method's state is carried from one to the next.
    """
    count = gradients.losses
    combination = combination_lib.build(method, dict(options), count)
    gramians = tf.constant(gradients.gramians(), tf.float64)
    state = combination.initial_state()

    def solve(step: tf.Tensor, before: Mapping[str, tf.Tensor], total: tf.Tensor) -> tuple:
        problem = _problem(combination, step, gramians[step % gramians.shape[0]])
        answer = combination.solve(problem, before)
        return step + 1, dict(answer.state), total + mixing.joint_coefficients(answer.coefficients)

    @tf.function(autograph=False)
    def loop(first: tf.Tensor, before: Mapping[str, tf.Tensor]) -> tuple:
        start = (first, before, tf.zeros([count], tf.float64))
        return tf.while_loop(lambda step, *_: step < first + per_call, solve, start)[1:]

    taken = 0

    def steps(wanted: int) -> float:
        nonlocal taken, state
        start = time.perf_counter()
        for _ in range(wanted // per_call):
            state, total = loop(tf.constant(taken, tf.int64), state)
            taken += per_call
        total.numpy()
        return time.perf_counter() - start

    return steps


def aggregated(gradients: Gradients, *, method: str, options: Mapping[str, float]) -> Callable[[int], float]:
    """Times the way from the rows of all gradients to the combined one."""
    return _timed(lambda rows: combine.aggregate(method, rows, **options), gradients)


def products(gradients: Gradients) -> Callable[[int], float]:
    """The two products alone, of the gradients' own dtype."""

    def both(rows: tf.Tensor) -> tf.Tensor:
        found = tf.matmul(rows, rows, transpose_b=True)
        # Weights that are known only after the first product.
        return tf.linalg.matvec(rows, tf.linalg.diag_part(found), transpose_a=True)

    return _timed(both, gradients)


def mixed(gradients: Gradients, *, method: str | None) -> Callable[[int], float]:
    """The gradients of several variables, kept as a tensor for each and every loss, mixed as a training step does it.

    Args:
      gradients: cut into variables.
      method: one that looks at a Gramian; None: weights that are there.
    """
    count, size = gradients.losses, gradients.parameters // _VARIABLES
    kept = [
        [tf.random.stateless_normal([size], [v, k], dtype=gradients.dtype) for k in range(count)]
        for v in range(_VARIABLES)
    ]

    @tf.function(autograph=False)
    def mix() -> list[tf.Tensor]:
        found = tf.ones([count], tf.float64)
        if method is not None:
            blocks: list[tf.Tensor] = []
            for rows in kept:
                with tf.control_dependencies(blocks[-1:]):
                    blocks.append(gramian.block([tf.identity(row) for row in rows]))
            combination = combination_lib.build(method, {}, count)
            total = gramian.total(blocks, [tuple(range(count))] * _VARIABLES, count)
            answer = combination.solve(_problem(combination, tf.constant(0, tf.int64), total), {})
            found = mixing.joint_coefficients(answer.coefficients)
        return [mixing.joint(rows, found[tf.newaxis]) for rows in kept]

    def steps(wanted: int) -> float:
        start = time.perf_counter()
        for _ in range(wanted):
            results = mix()
        results[-1].numpy()
        return time.perf_counter() - start

    return steps


def _timed(function: Callable[[tf.Tensor], tf.Tensor], gradients: Gradients) -> Callable[[int], float]:
    graph, rows = tf.function(function, autograph=False), _rows(gradients)

    def steps(wanted: int) -> float:
        start = time.perf_counter()
        for _ in range(wanted):
            result = graph(rows)
        result.numpy()
        return time.perf_counter() - start

    return steps


@functools.cache
def _rows(gradients: Gradients) -> tf.Tensor:
    """One copy for all contenders."""
    return tf.constant(gradients.rows())


def _problem(combination: combination_lib.Combination, step: tf.Tensor, found: tf.Tensor) -> Problem:
    count = combination.count
    return Problem(
        active=tf.ones([count], tf.bool),
        loss_weights=tf.ones([count], tf.float64),
        losses=None,
        gramian=found,
        seed=combination_lib.step_seed(0, step),
        step=step,
        epoch=tf.constant(0, tf.int64),
    )
