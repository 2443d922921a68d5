"""A trained run as exports need it: what it takes, its model, and what its losses make of the heads."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from input_pipelines import raw_features
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.raw_features import RawFeature
from trainer.components import predicted_targets, predictions
from trainer.components.predicted_targets import PredictedTarget
from trainer.components.prediction_parts import Output

_ONE = "inputs"  # the name of the input of a model that takes a single tensor


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
      name: the run's directory, as it was given.
      step: the number of steps that its variables were trained for.
      precision: the configuration's.
      model: its model with these variables.
      spec: of a batch as the model takes it: a specification, or a dictionary of them by input.
      features: feature → how a caller gives it; by its name in the source.
      preparation: makes inputs of features; None: they are the inputs.
      predicted: what its losses say of their targets; of a run whose losses say nothing, nothing.
    """

    name: str
    step: int
    precision: str
    model: keras.Model
    spec: Any
    features: Mapping[str, RawFeature]
    preparation: Preparation | None
    predicted: Sequence[PredictedTarget]

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Input name → specification of a batch of any size; of a model that takes a single tensor, `inputs`."""
        return dict(self.spec) if isinstance(self.spec, Mapping) else {_ONE: self.spec}

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Feature → the name of an input of a signature, which cannot have all characters."""
        return raw_features.names(list(self.features))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The tensors that `by_loss` gives, in words."""
        return tuple(output for each in self.predicted for output in each.outputs)

    @property
    def tables(self) -> list[Any]:
        """The lookup tables that `prepare` reads."""
        return [] if self.preparation is None else self.preparation.tables()

    def prepare(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The model's inputs, made of a batch of features as a caller gives them. Runs in a graph, without Python."""
        return self.prepared(raw_features.decoded(self.features, raw))

    def prepared(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The model's inputs, made of a batch of features as the source gives them. Runs in a graph."""
        if self.preparation is None:
            return dict(features)
        inputs = self.preparation(features)["inputs"]
        return dict(inputs) if isinstance(inputs, Mapping) else {_ONE: inputs}

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Head name → output for prepared inputs, batch first; half-precision ones as float32. Runs in a graph."""
        given = dict(inputs) if isinstance(self.spec, Mapping) else inputs[_ONE]
        outputs = predictions.of(self.model(given, training=False)).outputs
        return {head: tf.identity(output) for head, output in outputs.items()}

    def by_loss(self, heads: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what the losses make of the heads, by name; the heads where they say nothing. Runs in a graph."""
        return predicted_targets.of(self.predicted, heads) if self.predicted else dict(heads)

    def answer(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what the run says of a batch of features as a caller gives them. Runs in a graph, without Python."""
        return self.by_loss(self.call(self.prepare(raw)))
