"""The loop over steps in TensorFlow's graph, which no step leaves for Python."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.step.compiled_loop import CompiledLoop
from trainer.step.gathered import Gathered, OnDevice
from trainer.step.values import State, Totals

OneStep = Callable[[Any, tf.Tensor, tf.Tensor, State, Totals], tuple[State, Totals]]  # as `Step.one_step`
Train = Callable[..., tuple[State, Totals]]
_Values = dict[str, tf.Tensor]  # of the state, those that later steps read, by name
_Carried = tuple[tf.Tensor, _Values, Totals]  # from step to step, the index first


class Probing(NamedTuple):
    """Steps that are taken in another way, and always measure.

    Attributes:
      one_step: takes one of them.
      next: numbers of a step, and of the one from there on that is to measure → that of the first of them from there
        on, scalar int64 all.
    """

    one_step: OneStep
    next: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The loop as it is traced, which reads an iterator, or data in memory by the rows of a call's steps."""

    train: tf.types.experimental.PolymorphicFunction

    def __call__(self, source: Any, first_step: tf.Tensor, count: tf.Tensor, *arguments: Any) -> tuple[State, Totals]:
        """Takes `count` steps."""
        return self.train(_given(source, int(count)), first_step, count, *arguments)

    def get_concrete_function(self, source: Any, *arguments: Any) -> tf.types.experimental.ConcreteFunction:
        """The trace; takes no step."""
        return self.train.get_concrete_function(_given(source, 0), *arguments)


def _given(source: Any, count: int) -> Any:
    """The argument of the traced function for `count` steps."""
    return source.gathered(count) if isinstance(source, OnDevice) else source


def build(
    one_step: OneStep,
    probing: Probing | None,
    remembered: Callable[[State], _Values],
    with_remembered: Callable[[State, Mapping[str, tf.Tensor]], State],
    *,
    compiled: bool,
) -> Train:
    """Builds the loop.

    Args:
      one_step: takes a step.
      probing: steps among these that are taken in another way; None: there are none.
      remembered: state → what later steps read of it, by name.
      with_remembered: a state with other values of these.
      compiled: whether the loop is one XLA program, `compiled_loop.CompiledLoop`, which reads `OnDevice` data.

    Returns:
      `train(source, first_step, count, measure, state, totals)`, which takes `count` steps, their batches from `source`
      (an iterator or `OnDevice` data), and returns the state and the totals; the last of the steps measures gradient
      norms and cosines where `measure` (and a pass per loss is taken, or is where a report wants one). `first_step`,
      `count` and `measure` are scalar tensors (int64, int64, bool), so that nothing is traced again. A step that is not
      finite changes nothing and ends the loop, unless a smaller loss scale may help.
    """

    def train(
        source: Any, first_step: tf.Tensor, count: tf.Tensor, measure: tf.Tensor, state: State, totals: Totals
    ) -> tuple[State, Totals]:
        # What no later step reads is not handed on from step to step: each tensor takes several operations there.
        def advanced(take: OneStep, measured: tf.Tensor, index: tf.Tensor, values: _Values, totals: Totals) -> _Carried:
            iterator = source.at(index) if isinstance(source, Gathered) else source
            after, totals = take(iterator, first_step + index, measured, with_remembered(state, values), totals)
            return index + 1, remembered(after), totals

        def body(index: tf.Tensor, *carried: Any) -> _Carried:
            return advanced(one_step, measure & (index + 1 == count), index, *carried)

        def continues(index: tf.Tensor, values: _Values, totals: Totals) -> tf.Tensor:
            del values
            return (index < count) & (totals.failed_step < 0)

        reported = tf.where(measure, first_step + count - 1, tf.int64.max)

        # Operations of a probe that is not taken would take their time, too, were they within the innermost loop.
        def through_probe(*carried: Any) -> _Carried:
            probe = probing.next(first_step + carried[0], reported) - first_step
            carried = tf.while_loop(lambda *now: continues(*now) & (now[0] < probe), body, carried)
            return tf.cond(
                continues(*carried),
                lambda: advanced(probing.one_step, tf.constant(True), *carried),
                lambda: tf.nest.map_structure(tf.identity, carried),
            )

        start = (tf.zeros_like(count), remembered(state), totals)
        _, values, totals = tf.while_loop(continues, body if probing is None else through_probe, start)
        return with_remembered(state, values), totals

    if compiled:
        return CompiledLoop(tf.function(train, autograph=False, jit_compile=True))
    return _Loop(tf.function(train, autograph=False))
