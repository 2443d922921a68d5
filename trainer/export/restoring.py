"""From a run's directory to its model with the variables of a checkpoint, for what its data look like."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.components import losses as losses_lib
from trainer.components.losses import NamedLoss
from trainer.config.settings import Config
from trainer.models import trunk_and_heads
from trainer.output import checkpoint
from trainer.run import checks

_AVERAGES = "average"  # the part of a checkpoint


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's model and its losses.

    Attributes:
      model: with the variables of a checkpoint.
      losses: in the configuration's order.
      outputs: head name → Keras' symbolic tensor, what the model gives for a batch.
    """

    model: keras.Model
    losses: tuple[NamedLoss, ...]
    outputs: Mapping[str, Any]


def restore(
    config: Config,
    folder: pathlib.Path,
    inputs: Any,
    categories: Mapping[str, Sequence[int]],
    *,
    averaged: bool,
) -> Restored:
    """Builds the run's model and reads its variables.

    Args:
      config: the run's configuration; its precision is set already.
      folder: the checkpoint, which is not damaged.
      inputs: `tf.TensorSpec`s of a batch as the model takes it.
      categories: input name → the number of categories of each of its columns; for categorical inputs.
      averaged: whether to take the moving averages of the variables where the run keeps them.

    Raises:
      ConfigError: the model cannot be built or does not take these inputs, or the checkpoint does not fit.
    """
    keras.utils.set_random_seed(config.seed % 2**32)  # as in training: what is not saved is the same
    model = trunk_and_heads.build(config.model, inputs, categories)
    state = checkpoint.model_state(model)
    checkpoint.restore(folder, {"model": state})
    if averaged:
        checkpoint.restore(folder, checkpoint.held(folder, {_AVERAGES: state}))
    losses = tuple(losses_lib.build(name, loss) for name, loss in config.losses.items())
    return Restored(model, losses, checks.outputs(model, inputs, config.model.name))


def batch(spec: Any) -> Any:
    """`tf.TensorSpec`s of a batch of any size, from those of one example."""
    return tf.nest.map_structure(lambda leaf: tf.TensorSpec((None, *leaf.shape), leaf.dtype), spec)
