"""The in-graph loop as one XLA program on one device, where the data are, too: no step waits for the host."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainer.common.errors import ConfigError, reason_of
from trainer.config.settings import LOOP
from trainer.step.values import State, Totals

_UNSUPPORTED = re.compile(r"unsupported operations when trying to compile graph .*?: (\w+) ", re.DOTALL)


class OneBatch:
    """An iterator that gives a single batch, which is made already."""

    def __init__(self, batch: Any):
        self._batch = batch

    def __iter__(self) -> "OneBatch":
        return self

    def __next__(self) -> Any:
        return self._batch


class Gathered(NamedTuple):
    """The batches of a call of the loop, as tensors.

    Attributes:
      examples: nested tensors of all examples, which come first in their shapes.
      rows: (steps, examples of a batch) int32, those of each step of the call; steps beyond the last are not taken.
    """

    examples: Mapping[str, Any]
    rows: tf.Tensor

    def at(self, index: tf.Tensor) -> OneBatch:
        """The batch of a step, by its scalar int64 number within the call."""
        rows = tf.gather(self.rows, index)  # of a slice the start would be a constant, and each call be compiled
        return OneBatch(tf.nest.map_structure(lambda values: tf.gather(values, rows), self.examples))


class OnDevice:
    """A split on the device that trains on it, and the rows of its examples from step to step.

    Args:
      device: the device.
      examples: as `Gathered` has them.
      rows: (steps, examples of a batch) int32 arrays: those of `most` steps each, without end.
      most: steps that a call of the loop can take.
    """

    def __init__(self, device: str, examples: Mapping[str, Any], rows: Iterator[np.ndarray], most: int):
        self.device, self.most = device, most
        self._examples, self._rows, self._left = examples, rows, None

    def gathered(self, count: int) -> Gathered:
        """The batches of the next `count` steps; raises ValueError for more than a call can take."""
        if count > self.most:
            raise ValueError(f"{count} steps are more than the {self.most} of a call")
        if self._left is None:
            self._left = next(self._rows)
        if len(self._left) < count:
            self._left = np.concatenate([self._left, next(self._rows)])
        rows = self._left[: self.most]
        self._left = self._left[count:]
        padded = np.concatenate([rows, np.zeros([self.most - len(rows), rows.shape[1]], rows.dtype)])
        return Gathered(self._examples, tf.constant(padded))


@dataclasses.dataclass(frozen=True)
class CompiledLoop:
    """The loop, called as that of `in_graph_loop.build` with an `OnDevice` in place of an iterator.

    Attributes:
      train: the compiled function, of a `Gathered` in that place.
    """

    train: tf.types.experimental.PolymorphicFunction

    def __call__(
        self, data: OnDevice, first_step: tf.Tensor, count: tf.Tensor, measure: tf.Tensor, state: State, totals: Totals
    ) -> tuple[State, Totals]:
        """Takes `count` steps, whose examples come next in `data`."""
        with tf.device(data.device):
            return self.train(data.gathered(int(count)), first_step, count, measure, state, totals)

    def get_concrete_function(self, data: OnDevice, first_step: tf.Tensor, *arguments: Any) -> Any:
        """Traces and compiles, which the first call of another loop than this would do; takes no step.

        Args:
          data: as in a call.
          first_step: as in a call.
          *arguments: as in a call, but `count` must be 0.

        Raises:
          ConfigError: XLA cannot compile the loop.
        """
        try:
            self(data, first_step, *arguments)
            with tf.device(data.device):
                return self.train.get_concrete_function(data.gathered(0), first_step, *arguments)
        except (tf.errors.OpError, LookupError) as error:
            if isinstance(error, LookupError) and type(error) is not LookupError:
                raise
            found = _UNSUPPORTED.search(str(error))
            reason = f"the operation {found[1]}" if found else f"the step: {reason_of(error)}"
            raise ConfigError(
                "compile", LOOP, f"asks XLA to compile {reason}, which it cannot; leave it 'off'"
            ) from error
