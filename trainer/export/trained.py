"""A trained run as exports need it: its model, what its losses make of the heads, and what it takes."""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from trainer.components import predictions


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
      name: the run's directory, as it was given.
      step: the number of steps that its variables were trained for.
      precision: the configuration's.
      model: its model with these variables.
      inputs: input name → specification of a batch of it, of any size, as the model takes it; one of the name "inputs"
        where the model takes a single tensor.
      by_loss: `by_loss(heads)`, what `call` returns → name → tensor, batch first: what each loss makes of them.
    """

    name: str
    step: int
    precision: str
    model: keras.Model
    inputs: Mapping[str, tf.TensorSpec]
    takes_one: bool
    by_loss: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Head name → output for prepared inputs, batch first; half-precision ones as float32. Runs in a graph."""
        given = inputs["inputs"] if self.takes_one else dict(inputs)
        outputs = predictions.of(self.model(given, training=False)).outputs
        return {head: tf.identity(output) for head, output in outputs.items()}
