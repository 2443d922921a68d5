"""Runs the functions of a step on every replica."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.distributed import replica_state
from trainer.step.values import Applied, StepSummary


def run(
    strategy: tf.distribute.Strategy, function: Callable[..., tuple[Applied, StepSummary]], args: tuple
) -> tuple[Applied, StepSummary]:
    """Runs `function(*args)` on every replica; returns what each changes, and the summary, which is the same on all."""
    applied, summary = strategy.run(function, args=args)
    return applied, first(strategy, summary)


def run_if(
    condition: tf.Tensor, strategy: tf.distribute.Strategy, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """Runs `function(*args)` on every replica where `condition` (a scalar bool outside replica context) holds."""
    replica_state.run_if(condition, lambda: strategy.run(function, args=args))


def first(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """Values that are the same on every replica, from the first one."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def over_micro_batches(
    strategy: tf.distribute.Strategy,
    count: int,
    iterator: Any,
    batch: Any,
    step: tf.Tensor,
    accumulate: Callable[..., Any],
    args: tuple,
) -> Any:
    """Runs `accumulate(batch, number of the micro-batch, *args)` on every replica, and sums over a step.

    Args:
      strategy: where.
      count: micro-batches in a step.
      iterator: gives those after the first.
      batch: the first.
      step: number of the step.
      accumulate: returns a named tuple whose `SUMMED` fields are added up; the others stay those of the first one.
      args: more arguments.
    """
    start = step * count
    total = strategy.run(accumulate, args=(batch, start, *args))
    if count == 1:
        return total

    def add(total: Any, batch: Any, micro_step: tf.Tensor, *args: Any) -> Any:
        part = accumulate(batch, micro_step, *args)
        plus = {name: tf.nest.map_structure(tf.add, getattr(total, name), getattr(part, name)) for name in total.SUMMED}
        return total._replace(**plus)

    def body(index: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
        return index + 1, strategy.run(add, args=(total, next(iterator), start + index, *args))

    one = tf.ones([], tf.int64)
    # One iteration at a time: of several the memory would add up.
    return tf.while_loop(lambda index, _: index < count, body, (one, total), parallel_iterations=1)[1]
