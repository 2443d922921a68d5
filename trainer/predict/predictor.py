"""A trained model on all replicas: from a batch of prepared inputs to what its losses say of their targets."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from trainer.common.errors import ConfigError
from trainer.components import predicted_targets, scalars
from trainer.components.predicted_targets import PredictedTarget
from trainer.components.prediction_parts import Output
from trainer.distributed import replica_state
from trainer.models import forward_pass
from trainer.run import checks
from trainer.run import network as network_lib
from trainer.run.restored import Restored

HEAD = "head"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Predicts batch by batch.

    Attributes:
      restored: the run.
      predicted: what losses say of their targets.
      heads: the outputs that the model's heads give beside them, as they are.
      size: rows of a batch; smaller ones are filled up and cut again, so that nothing is traced twice.
    """

    restored: Restored
    predicted: tuple[PredictedTarget, ...]
    heads: tuple[Output, ...]
    size: int

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The predicted tensors, in their order."""
        return (*(output for each in self.predicted for output in each.outputs), *self.heads)

    def __call__(self, inputs: Any, count: int, number: int) -> dict[str, np.ndarray]:
        """Returns output name → (count, ...) values.

        Args:
          inputs: a tensor's values or a dictionary of them, (count, ...).
          count: rows, at most `size`.
          number: of the batch, from which layers draw that draw when a model is evaluated.
        """
        strategy = self.restored.strategy
        replicas = strategy.num_replicas_in_sync
        rows = np.minimum(np.arange(self.size), count - 1)
        whole = inputs if count == self.size else tf.nest.map_structure(lambda values: values[rows], inputs)
        if replicas == 1:
            parts = tf.nest.map_structure(tf.convert_to_tensor, whole)
        else:
            ends = [replica * self.size // replicas for replica in range(replicas + 1)]
            parts = tf.nest.map_structure(
                lambda values: strategy.experimental_distribute_values_from_function(
                    lambda context: tf.convert_to_tensor(
                        values[ends[context.replica_id_in_sync_group] : ends[context.replica_id_in_sync_group + 1]]
                    )
                ),
                whole,
            )
        found = self._compiled(parts, scalars.int64(number))
        return {
            name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(values)])[:count]
            for name, values in found.items()
        }

    @functools.cached_property
    def _compiled(self) -> Any:
        strategy = self.restored.strategy
        return tf.function(lambda *arguments: strategy.run(self._on_replica, args=arguments), autograph=False)

    def _on_replica(self, inputs: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
        restored = self.restored
        step = scalars.int64(restored.step)
        replica_state.seed_evaluation(restored.model, seed=restored.config.seed, step=step, batch=number)
        heads = forward_pass.predict(restored.model, (), inputs, training=False).outputs
        found = predicted_targets.of(self.predicted, heads)
        return found | {output.name: heads[output.name.removeprefix(f"{HEAD}/")] for output in self.heads}


def build(restored: Restored, *, heads: bool, size: int) -> Predictor:
    """Returns what predicts with a run's model.

    Args:
      restored: the run.
      heads: whether the heads are given as they are, too.
      size: rows of a batch.

    Raises:
      ConfigError: no loss says anything of a target, and heads are not asked for.
    """
    network, kept = restored.network, restored.kept
    spec = network_lib.batch_spec(kept.data.splits[TRAIN], 1)
    outputs = checks.outputs(restored.model, spec["inputs"], restored.config.model.name)
    names, inverses = kept.data.names, kept.data.inverses
    predicted = predicted_targets.build(network.losses, outputs, spec["targets"], names, inverses)
    if not (predicted or heads):
        raise ConfigError("--heads", False, "is all that this run has: none of its losses says anything of a target")
    return Predictor(restored, predicted, _heads(outputs) if heads else (), size)


def _heads(outputs: Mapping[str, Any]) -> tuple[Output, ...]:
    found = []
    for head, output in outputs.items():
        name, shape = f"{HEAD}/{head}", tuple(output.shape[1:])
        columns = (name,) if shape in ((), (1,)) else ()
        if len(shape) == 1 and shape != (1,):
            columns = tuple(f"{name}/{index}" for index in range(shape[0]))
        half = str(output.dtype) in ("float16", "bfloat16")
        dtype = "float32" if half else str(output.dtype)
        found.append(Output(name, shape, dtype, columns, (), f"the model's head {head!r} as it is"))
    return tuple(found)
