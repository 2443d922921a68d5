"""The call of a model, with all that its losses read of it beside its outputs: layers, inputs, what layers add."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError, unknown
from trainer.components import observed_layers
from trainer.components import predictions as predictions_lib
from trainer.components.losses import NamedLoss
from trainer.components.observed_layers import Observed
from trainer.components.predictions import Predictions
from trainer.config.paths import LAYERS, MODEL
from trainer.models import names
from trainer.models.recomputation import Recomputed

_RECOMPUTED = "is computed again in the backward pass, so that nothing of it is kept: leave model.recompute False"


def predict(
    model: keras.Model, losses: Sequence[NamedLoss], inputs: Any, *, training: bool, all_added: bool = False
) -> Predictions:
    """Calls a model.

    Args:
      model: the model, whose outputs are a dictionary by head.
      losses: those that are to be computed of what this returns; their layers exist (`check_layers`).
      inputs: a tensor or a dictionary of tensors, batch first.
      training: as Keras has it.
      all_added: name also the layers that add what no loss names (`Predictions.unnamed`).

    Raises:
      ConfigError: what a loss reads of a layer, or a layer adds, cannot be read.
    """
    if not (reads_more_than_outputs(losses) or all_added):
        return predictions_lib.of(model(inputs, training=training), inputs)
    read = [name for loss in losses for name in loss.names(LAYERS)]
    origins = [loss.added_by for loss in losses if loss.added_by is not None]
    differentiates = any(loss.takes_derivative for loss in losses)
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False) if differentiates else None
    with contextlib.nullcontext() if tape is None else tape:
        if tape is not None:
            inputs = tf.nest.map_structure(tf.identity, inputs)  # of this graph, where the batch is of one around it
            tape.watch([each for each in tf.nest.flatten(inputs) if each.dtype.is_floating])
        with observed_layers.observed() as found:
            predictions = predictions_lib.of(model(inputs, training=training), inputs)
        layers, layer_masks = predictions_lib.apart(_outputs(model, read, found))
    added, unnamed = _added(model, origins, found)
    return predictions._replace(layers=layers, layer_masks=layer_masks, added=added, unnamed=unnamed, tape=tape)


def reads_more_than_outputs(losses: Sequence[NamedLoss]) -> bool:
    """True where a loss is of what layers give or add, or of derivatives, and not of outputs and inputs alone."""
    return any(loss.names(LAYERS) or loss.added_by is not None or loss.takes_derivative for loss in losses)


def check_layers(model: keras.Model, losses: Sequence[NamedLoss]) -> None:
    """Raises ConfigError for a loss that needs a layer which the model does not have, or which keeps nothing."""
    by_name, recomputed = names.layers_by_name(model), _recomputed(model)
    for loss in losses:
        if loss.takes_derivative and recomputed:
            reason = f"keeps nothing of the trunk, through which {loss.function_name} takes derivatives; leave it False"
            raise ConfigError("model.recompute", True, reason)
        for argument, path in (loss.reads or {}).items():
            if path.kind != LAYERS:
                continue
            field = f"losses.{loss.name}.reads.{argument}"
            if path.name not in by_name:
                raise unknown(field, str(path), "layer", [f"{LAYERS}.{name}" for name in by_name])
            if id(by_name[path.name]) in recomputed:
                raise ConfigError(field, str(path), _RECOMPUTED)


def _recomputed(model: keras.Model) -> set[int]:
    segments = [each for each in model._flatten_layers() if isinstance(each, Recomputed)]
    return {id(layer) for segment in segments for layer in segment._flatten_layers(include_self=False)}


def _outputs(model: keras.Model, read: Sequence[str], found: Observed) -> dict[str, tf.Tensor]:
    """Layer name → its output in the one call of it."""
    by_name = names.layers_by_name(model) if read else {}
    outputs = {}
    for name in read:
        calls = [output for layer, output in found.outputs if layer is by_name[name]]
        if len(calls) != 1:
            raise _unreadable(name, f"is called {len(calls)} times in one call of the model; once is needed to read it")
        if not tf.is_tensor(calls[0]) or calls[0].shape.rank == 0:
            raise _unreadable(name, f"gives {type(calls[0]).__name__}; a loss reads one tensor, batch first")
        outputs[name] = _of_this_graph(calls[0], name)
    return outputs


def _added(model: keras.Model, origins: Sequence[str], found: Observed) -> tuple[dict[str, tf.Tensor], tuple[str, ...]]:
    """The sum of what layers add by the name in a loss's `from`, and the names of layers that none has."""
    if not found.added:
        return {}, ()
    by_id = {id(layer): name for name, layer in names.layers_by_name(model).items()}
    recomputed, unnamed = _recomputed(model), []
    sums: dict[str, list[tf.Tensor]] = {}
    for layer, tensor in found.added:
        name = by_id.get(id(layer), MODEL)
        if id(layer) in recomputed:
            raise _unreadable(name, f"adds a loss of its own and {_RECOMPUTED}")
        origin = _origin(name, origins)
        if origin is None:
            unnamed.append(name)
        else:
            total = tf.cast(tf.reduce_sum(_of_this_graph(tensor, name)), keras.config.floatx())
            sums.setdefault(origin, []).append(total)
    return {origin: tf.add_n(totals) for origin, totals in sums.items()}, tuple(dict.fromkeys(unnamed))


def _origin(layer: str, origins: Sequence[str]) -> str | None:
    """The innermost of some layers in which a layer is; None where it is in none of them."""
    around = [name for name in origins if name == MODEL or f"{layer}/".startswith(f"{name}/")]
    return max(around, key=lambda name: -1 if name == MODEL else len(name), default=None)


def _of_this_graph(tensor: tf.Tensor, layer: str) -> tf.Tensor:
    """The tensor, which a loop or another function of TensorFlow would keep to itself."""
    graph = getattr(tensor, "graph", None)
    if graph is not None and graph is not tf.compat.v1.get_default_graph():
        raise _unreadable(layer, "is called in a loop or function of TensorFlow in the model, of which nothing is read")
    return tensor


def _unreadable(layer: str, reason: str) -> ConfigError:
    return ConfigError("model", f"{LAYERS}.{layer}", reason)
