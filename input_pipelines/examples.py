"""A split held in memory, checked against what every pipeline must yield."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipelines.registry import DATASETS
from trainer import imports, keras_objects
from trainer.configuration import DatasetConfig
from trainer.errors import ConfigError

TRAIN, VALIDATION = "train", "validation"


@dataclasses.dataclass(frozen=True)
class Examples:
    """All examples of one split, as arrays with the examples along the first axis.

    Attributes:
      inputs: an array, or a dictionary of arrays.
      targets: target name → array.
      weights: target name → array of finite weights of at least 0, of shape (examples,) or any that fits the target
      from the
        left; only for targets with missing or weighted labels. A weight of 0 means the label is missing.
    """

    inputs: Any
    targets: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs)

    @property
    def structure(self) -> dict[str, Any]:
        """What a pipeline yields: `inputs`, `targets` and, where given, `weights`."""
        inputs = dict(self.inputs) if isinstance(self.inputs, Mapping) else self.inputs
        parts = {"inputs": inputs, "targets": dict(self.targets)}
        return parts | ({"weights": dict(self.weights)} if self.weights else {})


def load(config: DatasetConfig, *, floatx: str) -> dict[str, Examples]:
    """The splits of the configured dataset, checked, with floating-point numbers as `floatx`.

    Raises:
      ConfigError: the dataset cannot be used.
    """
    function = imports.load(DATASETS.get(config.name, config.name), "dataset.name")
    arguments = dict(config.options) | ({"data_dir": config.data_dir} if config.data_dir is not None else {})
    splits = keras_objects.build(function, arguments, field="dataset.options")
    if not isinstance(splits, Mapping) or not {TRAIN, VALIDATION} <= set(splits):
        raise ConfigError("dataset.name", config.name, f"must give the splits {TRAIN!r} and {VALIDATION!r}")
    return {split: _checked(split, examples, floatx) for split, examples in splits.items()}


def _checked(split: str, examples: Examples, floatx: str) -> Examples:
    field = f"dataset.{split}"
    if not isinstance(examples, Examples) or not examples.targets:
        raise ConfigError(
            field, type(examples).__name__, "must be input_pipelines.examples.Examples with at least one target"
        )
    count = len(examples)
    if count == 0:
        raise ConfigError(field, count, "holds no example")
    inputs = examples.inputs if isinstance(examples.inputs, Mapping) else {"": examples.inputs}
    parts = {"inputs": inputs, "targets": examples.targets, "weights": examples.weights}
    for part, arrays in parts.items():
        for name, array in arrays.items():
            if len(array) != count:
                raise ConfigError(
                    f"{field}.{part}.{name}".rstrip("."),
                    len(array),
                    f"must hold one entry for each of the {count} examples",
                )
    for name, weights in examples.weights.items():
        _check_weights(f"{field}.weights.{name}", np.asarray(weights), known=name in examples.targets)
    cast = {part: {name: _cast(array, floatx) for name, array in arrays.items()} for part, arrays in parts.items()}
    whole = cast["inputs"] if isinstance(examples.inputs, Mapping) else cast["inputs"][""]
    return Examples(whole, cast["targets"], cast["weights"])


def _check_weights(field: str, weights: np.ndarray, *, known: bool) -> None:
    if not known:
        raise ConfigError(field, ConfigError.ABSENT, "there is no target of that name")
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise ConfigError(
            field, float(weights[tuple(where)]), f"(example {where[0]}) weights must be finite and at least 0"
        )
    if not weights.any():
        raise ConfigError(field, 0.0, "all weights are 0, so no example has this label")


def _cast(array: Any, floatx: str) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(floatx) if np.issubdtype(array.dtype, np.floating) else array
