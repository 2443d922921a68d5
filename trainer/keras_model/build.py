"""From a model and the arguments of `compile` to the functions that `fit` and `evaluate` call."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from trainer.keras_model.arguments import Compiled


@dataclasses.dataclass(frozen=True)
class Training:
    """What `fit` and `evaluate` call and report.

    Attributes:
      train_function: takes `steps_per_execution` steps on what an iterator of Keras' gives; returns the logs.
      test_function: evaluates as many batches; returns the logs.
      metrics: trackers of `loss`, compiled metrics and `<output>_loss`, in Keras' order.
      state: name → variable that later steps read.
      optimizers: name of an optimizer group → its optimizer, built.
    """

    train_function: Callable[[Any], dict[str, Any]]
    test_function: Callable[[Any], dict[str, Any]]
    metrics: list[keras.metrics.Metric]
    state: Mapping[str, Any]
    optimizers: Mapping[str, keras.optimizers.Optimizer]


def build(model: keras.Model, compiled: Compiled, spec: tuple[Any, Any, Any], batch_size: int | None) -> Training:
    """Builds a training; call it in the scope of the model's strategy.

    Args:
      model: the model, built.
      compiled: the arguments of `compile`.
      spec: (inputs, targets, sample weights) of one replica's part of a batch, `tf.TensorSpec`s of unknown length.
      batch_size: examples of a whole global batch; None where that is not known.
    """
    raise NotImplementedError
