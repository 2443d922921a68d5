"""Named operations that prepare inputs and targets, each on a batch of one feature.

An operation is a dataclass of its options. Called with values, batch first, and with what it learned, it returns new
values. Those that learn (statistics, vocabularies) see the training split alone, a chunk at a time, and keep what they
learned as plain values, which the run saves.

One that can be undone has `inverse(values, learned, shape)`, `shape` of one example before it; classes have `labels`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from input_pipelines.configuration import MEAN
from input_pipelines.preparation.class_operations import Bins, Equals, Groups, OneHot, Threshold
from input_pipelines.preparation.number_operations import Clip, Fill, Log, Scale, Standardise
from input_pipelines.preparation.picture_operations import CentralCrop, Grayscale, Reshape, Resize
from input_pipelines.preparation.values import Learned
from input_pipelines.preparation.vocabulary_operations import Categories, Classes
from trainer.common import import_paths, schema
from trainer.common.errors import unknown

OPERATIONS: Mapping[str, type] = {
    "scale": Scale,
    "log": Log,
    "clip": Clip,
    "fill": Fill,
    "standardise": Standardise,
    "bins": Bins,
    "threshold": Threshold,
    "equals": Equals,
    "groups": Groups,
    "categories": Categories,
    "classes": Classes,
    "one_hot": OneHot,
    "resize": Resize,
    "central_crop": CentralCrop,
    "grayscale": Grayscale,
    "reshape": Reshape,
}


@dataclasses.dataclass(frozen=True)
class Own:
    """A function of the user's own: `function(values, **arguments)` → values, on a batch of tensors."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, values: tf.Tensor, learned: Learned) -> tf.Tensor:
        return tf.convert_to_tensor(self.function(values, **self.arguments))


def build(specs: Sequence[Mapping[str, Any]], field: str, registered: Mapping[str, type] = OPERATIONS) -> list[Any]:
    """The operations of a configuration, in order.

    Args:
      specs: each a `name` (registered, or an import path) and options.
      field: the configuration's key, for errors.
      registered: name → dataclass of its options.

    Raises:
      ConfigError: an operation or an option that does not exist.
    """
    built = []
    for index, spec in enumerate(specs):
        at = f"{field}.{index}"
        options = {key: value for key, value in spec.items() if key != "name"}
        if import_paths.is_path(spec["name"]):
            function = import_paths.load(spec["name"], f"{at}.name")
            import_paths.check_arguments(function, options, field=at, positional=1 if registered is OPERATIONS else 2)
            built.append(Own(function, options))
            continue
        if spec["name"] not in registered:
            raise unknown(f"{at}.name", spec["name"], "operation", [*registered, "package.module:function"])
        operation = schema.record(registered[spec["name"]])(options, at)
        if hasattr(operation, "check"):
            operation.check(at)
        built.append(operation)
    return built


def name_of(operation: Any) -> str:
    """The name by which a configuration asks for an operation."""
    if isinstance(operation, Own):
        return getattr(operation.function, "__name__", "function")
    return next(name for name, kind in OPERATIONS.items() if isinstance(operation, kind))


def learns(operation: Any) -> bool:
    """True for an operation that must see the training split first."""
    return hasattr(operation, "collect") and not (isinstance(operation, Fill) and operation.value != MEAN)
