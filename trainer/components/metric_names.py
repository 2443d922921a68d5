"""Names of metrics: those that reports have, and those of Keras that stand for one of several by the shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.components.loss_functions import Kind
from trainer.components.losses import NamedLoss

RESOLVED = {
    "accuracy": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "acc": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "crossentropy": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
    "ce": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
}


def of(name: Any, field: str, taken: Mapping[str, Any], given: str, weighted: bool) -> str:
    """Returns a metric's name in reports.

    Args:
      name: what is asked for.
      field: the metric's key.
      taken: name → metric, of those before it.
      given: the name by which the configuration asks for the metric.
      weighted: whether labels count by their weights in it.

    Raises:
      ConfigError: it is no name, or two have it.
    """
    if not isinstance(name, str) or not schema.NAME.fullmatch(name):
        raise ConfigError(
            f"{field}.as", name, "a metric's name is letters, digits, '_' and '-', starting with a letter"
        )
    if name in taken and weighted and not taken[name].weighted:
        name = f"weighted_{name}"
    if name in taken:
        raise ConfigError(field, given, "is given twice; name one of them with 'as'")
    return name


def resolve(name: str, loss: NamedLoss, prediction: Sequence[int], target: Sequence[int]) -> str:
    """Keras' rule for names that depend on the shapes (`compile`'s "accuracy"); of labels each counts on its own."""
    if name.lower() not in RESOLVED:
        return name
    binary, categorical, sparse = RESOLVED[name.lower()]
    if prediction[-1:] in ((), (1,)) or loss.scores.kind in (Kind.LABELS, Kind.MARGINS):
        return binary
    if len(target) < len(prediction) or target[-1] == 1:
        return sparse
    return categorical
