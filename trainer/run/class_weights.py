"""The weights of every loss's classes: as they are given, or balanced by counts of the training split."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from input_pipelines import class_counts
from input_pipelines import data as data_lib
from input_pipelines.class_counts import BINARY, Classes, Counts, NoClassError
from input_pipelines.configuration import TRAIN
from input_pipelines.data import Data
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.components import target_classes
from trainer.components.class_weights import ClassWeights
from trainer.components.losses import NamedLoss
from trainer.config.class_weights import BALANCED
from trainer.config.loss_settings import LossConfig

_LISTED = 6  # classes without an example
Table = Sequence[Sequence[float]]


def resolved(
    configs: Mapping[str, LossConfig],
    losses: Sequence[NamedLoss],
    outputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    data: Data,
) -> tuple[tuple[NamedLoss, ...], Data]:
    """Returns the losses with their weights of classes, and the data with the counts that these need.

    What an earlier process of the run counted is used again.

    Args:
      configs: the losses' configuration.
      losses: the losses.
      outputs: head name → tensor or Keras' symbolic tensor, batch first.
      targets: target name → the same, or a specification.
      data: the data.

    Raises:
      ConfigError: weights do not fit a loss's classes, or a class to be balanced has no example.
    """
    weighted = {loss.name: loss for loss in losses if configs[loss.name].class_weights is not None}
    classes = {
        name: target_classes.of(loss, configs[name], outputs, targets[loss.target]) for name, loss in weighted.items()
    }
    # Counting also shows whether the numbers in the target of a loss of the user's own are classes.
    uncounted = {
        name: (loss.target, classes[name])
        for name, loss in weighted.items()
        if configs[name].class_weights == BALANCED or loss.targets_are_classes is None
        if name not in data.saved.class_counts
    }
    counts = {**data.saved.class_counts, **_counted(uncounted, weighted, configs, data)}
    for name, loss in weighted.items():
        given, names = configs[name].class_weights, _names(loss, classes[name], data)
        table = tuple(map(tuple, _table(loss, given, classes[name], counts.get(name), names)))
        weighted[name] = dataclasses.replace(loss, class_weights=ClassWeights(classes[name], table))
    return tuple(weighted.get(loss.name, loss) for loss in losses), data_lib.with_class_counts(data, counts)


def _counted(
    wanted: Mapping[str, tuple[str, Classes]],
    losses: Mapping[str, NamedLoss],
    configs: Mapping[str, LossConfig],
    data: Data,
) -> dict[str, Counts]:
    try:
        return class_counts.count(data.splits[TRAIN], wanted)
    except NoClassError as error:
        loss = losses[error.field]
        raise ConfigError(
            f"losses.{loss.name}.class_weights",
            configs[loss.name].class_weights,
            f"needs classes, but target {loss.target!r} holds {error.value} in the training split; the classes of "
            f"{loss.source} are {error.allowed}",
        ) from error


def _names(loss: NamedLoss, classes: Classes, data: Data) -> tuple[str, ...]:
    """The names of the classes; none where the data have none."""
    found = data.names.classes.get(f"targets.{loss.target}", ())
    return found[0] if classes.labels == 1 and len(found) == 1 and len(found[0]) == classes.count else ()


def _table(loss: NamedLoss, given: Any, classes: Classes, counts: Counts | None, names: Sequence[str]) -> Table:
    """For each label, or once for all of them, the weight of each class."""
    field = f"losses.{loss.name}.class_weights"
    if given == BALANCED:
        return [_balanced(label, numbers, classes, names, field, loss.target) for label, numbers in enumerate(counts)]
    if isinstance(given, dict):
        return [_by_class(given, classes, names, field)]
    is_of_labels = isinstance(given[0], list)
    if is_of_labels and classes.form == BINARY and len(given) == classes.labels:
        return given
    if is_of_labels or len(given) != classes.count:
        pairs = f", or a pair for each of its {classes.labels} labels" if classes.labels > 1 else ""
        needed = "the pair [negative, positive]" if classes.form == BINARY else f"{classes.count} numbers"
        raise ConfigError(field, given, f"must be {needed}{pairs}, as {loss.source} has {_extent(classes)}")
    return [given]


def _extent(classes: Classes) -> str:
    return f"{classes.labels} labels of 2 classes" if classes.labels > 1 else f"{classes.count} classes"


def _balanced(
    label: int, counts: Sequence[int], classes: Classes, names: Sequence[str], field: str, target: str
) -> list[float]:
    """Labels / (classes * labels of the class), as scikit-learn balances; 0 for the ignored class."""
    absent = [index for index, number in enumerate(counts) if not number and index != classes.ignored]
    if absent:
        shown = ", ".join(_shown(index, names) for index in absent[:_LISTED])
        more = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
        of_label = f" of label {label}" if classes.labels > 1 else ""
        has = "class {} has" if len(absent) == 1 else "classes {} have"
        raise ConfigError(
            field,
            BALANCED,
            f"{has.format(shown + more)} no labelled example{of_label} in the training split of target {target!r}; "
            "give numbers instead",
        )
    balanced = sum(index != classes.ignored for index in range(len(counts)))
    return [sum(counts) / (balanced * number) if number else 0.0 for number in counts]


def _shown(index: int, names: Sequence[str]) -> str:
    return f"{index} ({names[index]!r})" if names else str(index)


def _by_class(given: Mapping[str, float], classes: Classes, names: Sequence[str], field: str) -> list[float]:
    weights, keys = [1.0] * classes.count, {}
    for key, weight in given.items():
        index = _index(key, weight, classes, names, field)
        if index in keys:
            raise ConfigError(schema.join(field, key), weight, f"is class {index}, as is {keys[index]!r}")
        keys[index], weights[index] = key, weight
    if not any(weights):
        raise ConfigError(field, dict(given), "must leave at least one class with a weight above 0")
    return weights


def _index(key: str, weight: float, classes: Classes, names: Sequence[str], field: str) -> int:
    """The class that a key means: by its name where there is one, else by its number."""
    meant = {names.index(key)} if key in names else set()
    # Where names are numbers, another number is a name that is not there, hardly a place among them.
    if key.isdecimal() and int(key) < classes.count and (meant or not any(map(str.isdecimal, names))):
        meant.add(int(key))
    if not meant:
        raise unknown(schema.join(field, key), weight, "class", _allowed(classes, names), name=key)
    if len(meant) > 1:
        both = f"is the name of class {names.index(key)} and the number of class {names[int(key)]!r}"
        raise ConfigError(schema.join(field, key), weight, f"{both}; give a list, in the order {', '.join(names)}")
    return meant.pop()


def _allowed(classes: Classes, names: Sequence[str]) -> Iterable[str]:
    return names or map(str, range(classes.count))
