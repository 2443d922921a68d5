"""The losses of `compile` as the step has them: values of examples, summed over all replicas before any mean."""

import dataclasses
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from input_pipelines.class_counts import INDICES, ONE_HOT, Classes
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.components import loss_functions
from trainer.components import losses as losses_lib
from trainer.components.class_weights import ClassWeights
from trainer.components.loss_functions import LossFunction
from trainer.components.losses import NamedLoss
from trainer.config.paths import MODEL
from trainer.keras_model.outputs import CompiledLoss
from trainer.models import names

# What a mean is taken over, by a loss's `reduction` in Keras.
_NORMALIZERS = {
    "sum_over_batch_size": "examples",
    "mean": "examples",
    "none": "examples",
    None: "examples",
    "mean_with_sample_weight": "weights",
    "sum": "sum",
}


def build(compiled: Sequence[CompiledLoss]) -> tuple[NamedLoss, ...]:
    """The losses of `compile`, in their order; each reads the output and the target of its head."""
    return tuple(_named(loss) for loss in compiled)


def added(model: keras.Model, found: Iterable[tuple[keras.layers.Layer, Any]], taken: Sequence[str]) -> list[NamedLoss]:
    """A loss for each layer that adds some itself, of the layer's name.

    Args:
      model: the model.
      found: pairs of a layer and what it added in a call of the model.
      taken: names of other losses.
    """
    by_id = {id(layer): name for name, layer in names.layers_by_name(model).items()}
    layers = dict.fromkeys(by_id.get(id(layer), MODEL) for layer, _ in found)
    return [losses_lib.added(layer if layer not in taken else f"{layer}_added", layer, "examples") for layer in layers]


def normalizer_of(loss: Any) -> str:
    """The divisor of Σ w·ℓ that Keras has for a loss or a function, as `NamedLoss.normalizer`."""
    return _NORMALIZERS[getattr(loss, "reduction", None)]


def named(
    function: LossFunction, *, over: str | None = None, variables: tuple[str, ...] | None = None, **fields: Any
) -> NamedLoss:
    """A loss of `compile`: due in every step, NaN in a target being no label; `fields` are others of `NamedLoss`."""
    return NamedLoss(
        slice=None,
        every=1,
        offset=0,
        variables=variables,
        over=over,
        nan_is_missing=True,
        **function._asdict(),
        **fields,
    )


def with_class_weights(
    losses: Sequence[NamedLoss],
    given: Mapping[str, Mapping[int, float]],
    outputs: Mapping[str, Any],
    targets: Mapping[str, Any],
) -> tuple[NamedLoss, ...]:
    """The losses, with weights of their targets' classes.

    Args:
      losses: the losses.
      given: name of an output or of a loss → class → weight; of other classes it is 1.
      outputs: name of an output → its specification.
      targets: name of an output → specification of its target.

    Raises:
      ConfigError: a name of no loss, a class that its target has not, or a weight that is none.
    """
    names = [name for loss in losses if loss.head is not None for name in (loss.head, loss.name)]
    for name, weights in given.items():
        if name not in names:
            raise unknown(f"class_weight.{name}", dict(weights), "output", dict.fromkeys(names), name=name)

    def of(loss: NamedLoss) -> ClassWeights | None:
        own = None if loss.head is None else given.get(loss.name, given.get(loss.head))
        if own is None:
            return None
        field = f"class_weight.{loss.name if loss.name in given else loss.head}"
        return _class_weights(own, field, outputs[loss.head].shape, targets[loss.head].shape)

    return tuple(dataclasses.replace(loss, class_weights=of(loss)) for loss in losses)


def _class_weights(
    given: Mapping[int, float], field: str, output: tf.TensorShape, target: tf.TensorShape
) -> ClassWeights:
    """The weights of classes that a target holds as numbers, or where its last axis is largest."""
    for index, weight in given.items():
        if not isinstance(index, numbers.Integral) or index < 0:
            raise ConfigError(f"{field}.{index}", weight, "must belong to a class: a whole number of at least 0")
        schema.number()(float(weight) if isinstance(weight, numbers.Real) else weight, f"{field}.{index}")
    same_rank, last = target.rank == output.rank, target[-1]
    if same_rank and last != 1:
        classes = Classes(ONE_HOT, last)
    else:
        count = output[-1] if output[-1] not in (1, None) else max(2, 1 + max(given, default=0))
        classes = Classes(INDICES, count, has_axis=same_rank)
    if (largest := max(given, default=0)) >= classes.count:
        raise ConfigError(f"{field}.{largest}", given[largest], f"must belong to one of {classes.count} classes")
    return ClassWeights(classes, (tuple(float(given.get(index, 1.0)) for index in range(classes.count)),))


def _named(loss: CompiledLoss) -> NamedLoss:
    return named(
        loss_functions.of_object(loss.function),
        name=loss.name,
        head=loss.head,
        target=loss.head,
        normalizer=normalizer_of(loss.function),
        scalar_is_mean=True,
    )
