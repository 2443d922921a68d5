"""The model and the losses of an experiment without its data: which classes they take, what they make of NaN."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.data import Data
from input_pipelines.examples import Examples, NotFinite
from input_pipelines.feed import augmentation, mixture, splits, usable
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.mixture import Mixture
from input_pipelines.saved_data import SavedData
from trainer.common.errors import ConfigError
from trainer.config.settings import Config
from trainer.describe.scan.findings import Findings
from trainer.describe.scan.parts import ArraysPart, Batch, Part
from trainer.run import checks
from trainer.run import network as network_lib
from trainer.run.network import Network


class Structure(NamedTuple):
    """The form of a source's examples as training gets them.

    Attributes:
      config: the source's configuration.
      spec: `inputs`, `targets` and perhaps `weights`, as `tf.TensorSpec`s of one example.
      categories: input name → the number of categories of each of its columns.
    """

    config: SourceConfig
    spec: splits.Structure
    categories: Mapping[str, tuple[int, ...]]


class Classes(NamedTuple):
    """The classes that a loss takes: 0 to `count` - 1, and perhaps one that it ignores; `of` is what has them."""

    target: str
    count: int
    ignored: int | None
    of: str


@dataclasses.dataclass(frozen=True)
class Expectations:
    """A network, and the classes that its losses take."""

    network: Network
    classes: tuple[Classes, ...]

    def check(self, part: Part, batch: Batch, findings: Findings) -> np.ndarray:
        """(examples,) bool: those that the losses cannot be computed from, which become findings."""
        unusable = batch.unusable.copy()
        for each in self.classes:
            if each.target in batch.arrays["targets"]:
                unusable |= _outside(each, part, batch, findings)
        if isinstance(part, ArraysPart):
            unusable |= self._not_finite(part, batch, findings)
        return unusable

    def _not_finite(self, part: ArraysPart, batch: Batch, findings: Findings) -> np.ndarray:
        """Those with NaN or infinity that the model or a loss passes on."""
        passed_on = np.zeros(len(batch.places), bool)
        for number, found in _numbers(part, batch):
            if not findings.takes(found.field):
                passed_on[number] = True
                continue
            try:
                checks.not_finite(self.network.model, self.network.losses, [found])
            except ConfigError as error:
                findings.add(found.field, str(error))
                passed_on[number] = True
        return passed_on


def of(config: Config, structures: Mapping[str, Structure], strategy: tf.distribute.Strategy) -> Expectations:
    """Builds the network of a configuration for data of this form.

    Args:
      config: the resolved configuration.
      structures: the configuration's key of a source → the form of its examples.
      strategy: where to build it.

    Raises:
      ConfigError: it cannot be built.
    """
    held = {field: _stand_in(structure, field) for field, structure in structures.items()}
    built = next(iter(held.values())) if config.dataset.sources is None else _mixed(config, held)
    data = Data(built, SavedData({}, {}, {}))
    checks.what_is_read(config.losses, config.metrics, data.splits)
    # The weights of classes need counts of the data, and change none of the classes.
    losses = {name: dataclasses.replace(loss, class_weights=None) for name, loss in config.losses.items()}
    spec = network_lib.batch_spec(built[TRAIN], config.batch_size // config.micro_batches)
    network = network_lib.build(config.model, losses, config.metrics, config.seed, spec, data, strategy, config.freeze)
    outputs = checks.outputs(network.model, spec["inputs"], config.model.name)
    classes = (
        Classes(loss.target, loss.prediction(outputs).shape[-1], loss.ignored_class, loss.source)
        for loss in network.losses
        if loss.targets_are_classes and loss.target is not None
    )
    return Expectations(network, tuple(dict.fromkeys(classes)))


def _stand_in(structure: Structure, field: str) -> dict[str, InMemory]:
    """Both splits with a single example of zeros."""
    arrays = tf.nest.map_structure(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype.as_numpy_dtype), structure.spec)
    weights = {name: np.ones_like(values) for name, values in arrays.get("weights", {}).items()}
    split = InMemory(Examples(arrays["inputs"], arrays["targets"], weights), None, structure.categories)
    changes = augmentation.build(structure.config.augment, f"{field}.augment", split.spec, split.first)
    return {TRAIN: dataclasses.replace(split, augmentation=changes), VALIDATION: split}


def _mixed(config: Config, held: Mapping[str, Mapping[str, InMemory]]) -> dict[str, Any]:
    quotas = {name: source.quota for name, source in config.dataset.sources.items()}
    built = {}
    for split in (TRAIN, VALIDATION):
        parts = {name: held[f"dataset.sources.{name}"][split] for name in quotas}
        mixture.check(parts, "dataset.sources")
        built[split] = Mixture(parts, quotas)
    return built


def _outside(classes: Classes, part: Part, batch: Batch, findings: Findings) -> np.ndarray:
    labels = batch.arrays["targets"][classes.target]
    if not np.issubdtype(labels.dtype, np.floating):
        labels = labels.astype(np.int64)
    wrong = usable.outside(labels, classes.count, classes.ignored).reshape(len(labels), -1)
    kind = f"{part.field}.{part.split}.targets.{classes.target}: classes"
    for number in np.flatnonzero(wrong.any(axis=1)).tolist():
        first = labels[number].ravel()[wrong[number].argmax()]
        words = "".join(usable.class_words(f"{first:g}", classes.count))
        where = part.where(int(batch.places[number]))
        findings.add(kind, f"{where}: target {classes.target!r} {words} of {classes.of}")
    return wrong.any(axis=1)


def _numbers(part: ArraysPart, batch: Batch) -> Iterator[tuple[int, NotFinite]]:
    """Yields (number in the batch, the first NaN or infinity of an array) of every example that has one."""
    for name, values in splits.per_example(batch.arrays):
        kind, _, own = name.partition(".")
        if kind == "weights" or not np.issubdtype(values.dtype, np.floating):
            continue
        finite = np.isfinite(values).reshape(len(values), -1)
        for number in np.flatnonzero(~finite.all(axis=1)).tolist():
            value = float(values[number].ravel()[finite[number].argmin()])
            one = tf.nest.map_structure(lambda array, at=number: array[at : at + 1], batch.arrays)
            place = int(batch.places[number])
            yield number, NotFinite(f"{part.field}.{part.split}.{name}", kind, own, part.split, place, value, one)
