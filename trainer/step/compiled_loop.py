"""The in-graph loop as one XLA program on one device, where the data are, too: no step waits for the host."""

import dataclasses
import re
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError, reason_of
from trainer.config.settings import LOOP
from trainer.step.gathered import OnDevice
from trainer.step.values import State, Totals

_UNSUPPORTED = re.compile(r"unsupported operations when trying to compile graph .*?: (\w+) ", re.DOTALL)


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
