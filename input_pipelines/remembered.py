"""The features of a training split as a run remembers them, so that other data can be read the same way without it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import pictures
from input_pipelines.sources.source import Source


@dataclasses.dataclass(frozen=True)
class Remembered:
    """A split without an example (see `source.Source`).

    Attributes:
      unsized: feature → specification of one example, before pictures are brought to a size.
      classes: feature → the names of its classes.
      optional: features that an example may lack.
      sizes: feature → the size to bring its pictures to.
    """

    unsized: Mapping[str, tf.TensorSpec]
    classes: Mapping[str, Sequence[str]]
    optional: frozenset[str]
    sizes: Mapping[str, Resize] = dataclasses.field(default_factory=dict)
    records: None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return {name: pictures.sized(spec, self.sizes.get(name)) for name, spec in self.unsized.items()}

    def __len__(self) -> int:
        return 0

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`: a single example of zeros."""
        specs = {name: self.features[name] for name in names}
        yield {name: np.zeros((1, *spec.shape), spec.dtype.as_numpy_dtype) for name, spec in specs.items()}

    def resized(self, sizes: Mapping[str, Resize]) -> "Remembered":
        """See `source.Source`."""
        return dataclasses.replace(self, sizes=sizes)


def form(source: Source) -> dict[str, dict[str, Any]]:
    """Returns feature → its form as plain values: `dtype`, `shape` and, where it has them, `optional` and `classes`.

    Args:
      source: a split whose pictures are not brought to a size.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, spec in source.features.items():
        found[name] = {"dtype": spec.dtype.name, "shape": None if spec.shape.rank is None else spec.shape.as_list()}
        if name in source.optional:
            found[name]["optional"] = True
        if name in source.classes:
            found[name]["classes"] = list(source.classes[name])
    return found


def of_form(features: Mapping[str, Mapping[str, Any]]) -> Remembered:
    """The split that `form` was given, without its examples."""
    return Remembered(
        {name: tf.TensorSpec(each["shape"], each["dtype"]) for name, each in features.items()},
        {name: tuple(each["classes"]) for name, each in features.items() if "classes" in each},
        frozenset(name for name, each in features.items() if each.get("optional")),
    )
