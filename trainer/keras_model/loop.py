"""The functions that Keras' `fit` and `evaluate` call with an iterator: some steps in one call of TensorFlow each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from trainer.components import scalars
from trainer.keras_model import argument_names
from trainer.step.step import Step
from trainer.step.values import Measurement

Logs = dict[str, tf.Tensor]
_TENSORFLOWS = (tf.data.Iterator, tf.distribute.DistributedIterator)


class Memory:
    """The variables that later steps read, beside those of the model and of the optimizers.

    Args:
      step: the step whose state they hold.

    Attributes:
      variables: name → variable; "step" is the number of steps taken.
    """

    def __init__(self, step: Step):
        remembered = {"step": scalars.int64(0)} | step.remembered(step.initial_state())
        self.variables = {name: tf.Variable(value, trainable=False) for name, value in remembered.items()}

    def read(self) -> dict[str, tf.Tensor]:
        """The values by name."""
        return {name: variable.read_value() for name, variable in self.variables.items()}

    def write(self, values: Mapping[str, tf.Tensor]) -> None:
        """Holds these values by name."""
        for name, value in values.items():
            self.variables[name].assign(value)


class _Batch:
    """An iterator of the one batch of a step."""

    def __init__(self, batch: Mapping[str, Any]):
        self._batch = batch

    def __next__(self) -> Mapping[str, Any]:
        return self._batch


def train_function(
    step: Step,
    memory: Memory,
    batch_of: Callable[[Any], Mapping[str, Any]],
    failed: tf.Variable,
    logs: Callable[..., Logs],
    *,
    measures: bool,
    steps: int,
    eagerly: bool,
) -> Callable[[Any], Logs]:
    """A function of an iterator that takes at most `steps` steps and returns logs.

    A step that could not be taken changes nothing, and sets `failed`.

    Args:
      step: the step.
      memory: the state from step to step.
      batch_of: what an iterator gives → the step's batch.
      failed: bool variable.
      logs: the logs, given what the last step measured where steps measure; called outside replica context.
      measures: whether steps measure norms and cosines of the losses' gradients.
      steps: the most steps of one call.
      eagerly: nothing is traced.
    """

    # What no later step reads is not handed on from step to step: each tensor takes several operations there.
    def one(element: Any, carried: tuple[dict[str, tf.Tensor], tf.Tensor, tuple[Measurement, ...]]) -> tuple:
        values, any_failed, _ = carried
        number, before = values["step"], step.with_remembered(step.initial_state(), values)
        measure, totals = tf.constant(measures), step.initial_totals()
        new, found = step.one_step(_Batch(batch_of(element)), number, measure, before, totals)
        values = {"step": number + 1} | step.remembered(new)
        return values, any_failed | (found.failed_step >= 0), (found.measured,) if measures else ()

    def run(take: Callable[[tuple], tuple]) -> Logs:
        none = (step.initial_totals().measured,) if measures else ()
        values, any_failed, measured = take((memory.read(), failed.read_value(), none))
        memory.write(values)
        failed.assign(any_failed)
        return logs(*measured)

    return _function(one, run, steps=steps, eagerly=eagerly)


def test_function(
    on_batch: Callable[[Mapping[str, Any], tf.Tensor], None],
    batch_of: Callable[[Any], Mapping[str, Any]],
    logs: Callable[[], Logs],
    trained: tf.Variable | None,
    *,
    steps: int,
    eagerly: bool,
) -> Callable[[Any], Logs]:
    """A function of an iterator that evaluates at most `steps` batches and returns logs.

    Args:
      on_batch: adds a batch of all replicas to the sums and the metrics; it is also given the number of steps taken.
      batch_of: what an iterator gives → a batch.
      logs: the logs; called outside replica context.
      trained: holds the number of steps taken; None: there are none.
      steps: the most batches of one call.
      eagerly: nothing is traced.
    """

    def one(element: Any, carried: tuple[tf.Tensor]) -> tuple[tf.Tensor]:
        on_batch(batch_of(element), *carried)
        return carried

    def run(take: Callable[[tuple], tuple]) -> Logs:
        take((scalars.int64(0) if trained is None else trained.read_value(),))
        return logs()

    return _function(one, run, steps=steps, eagerly=eagerly)


def _function(
    one: Callable[[Any, tuple], tuple], run: Callable[[Callable[[tuple], tuple]], Logs], *, steps: int, eagerly: bool
) -> Callable[[Any], Logs]:
    """A function of an iterator of TensorFlow's, or of a Python generator.

    Args:
      one: (what an iterator gives, what the batch before left) → what this one leaves.
      run: given a function that takes all batches of a call, from what the first one reads to what the last one
        leaves, returns the logs.
      steps: the most batches of one call.
      eagerly: nothing is traced.
    """

    def of_iterator(iterator: Any) -> tuple[tf.Tensor, Logs]:
        if steps == 1:
            return tf.constant(1), run(lambda carried: one(iterator.get_next(), carried))
        taken = []

        def take(carried: tuple) -> tuple:
            count, carried = _several(one, iterator, carried, steps)
            taken.append(count)
            return carried

        logs = run(take)
        return taken[0], logs

    def of_element(element: Any) -> Logs:
        return run(lambda carried: one(element, carried))

    if not eagerly:
        of_iterator, of_element = (
            tf.function(each, autograph=False, reduce_retracing=True) for each in (of_iterator, of_element)
        )

    @argument_names.translated()
    def function(iterator: Iterator[Any]) -> Logs:
        if isinstance(iterator, _TENSORFLOWS):
            count, logs = of_iterator(iterator)
            if steps > 1 and count == 0:
                raise StopIteration
            return logs
        logs = None
        for _, element in zip(range(steps), iterator, strict=False):
            logs = of_element(keras.tree.map_structure(_tensor, element))
        if logs is None:
            raise StopIteration
        return logs

    return function


def _several(one: Callable[[Any, tuple], tuple], iterator: Any, carried: tuple, steps: int) -> tuple[tf.Tensor, tuple]:
    """Takes at most `steps` batches of an iterator; returns their number and what the last one left."""

    def body(index: tf.Tensor, batch: tf.experimental.Optional, carried: tuple) -> tuple:
        # Nothing orders these two, so that the next batch is fetched while a step is taken.
        following = tf.cond(index + 1 < steps, iterator.get_next_as_optional, lambda: batch)
        return index + 1, following, one(batch.get_value(), carried)

    def continues(index: tf.Tensor, batch: tf.experimental.Optional, carried: tuple) -> tf.Tensor:
        del carried
        return (index < steps) & batch.has_value()

    start = (tf.constant(0), iterator.get_next_as_optional(), carried)
    count, _, carried = tf.while_loop(continues, body, start, parallel_iterations=1)
    return count, carried


def _tensor(value: Any) -> Any:
    return None if value is None else tf.convert_to_tensor(value)
