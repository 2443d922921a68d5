"""scikit-learn's small tables (linnerud, diabetes, wine, breast cancer): inputs and named targets chosen by column.

https://scikit-learn.org/stable/datasets/toy_dataset.html

    "dataset": {
        "name": "diabetes",
        "options": {
            "inputs": ["age", "sex", "s*"],  # default: every column of numbers that no target is made of
            "targets": {
                "body": {"columns": ["bmi", "bp"]},  # a vector of two numbers
                "severity": {"classes": "progression", "bins": 5},  # the fifth it is in, 0 to 4
            },
        },
    }

Four fifths of the rows, shuffled once for all, are to train on. Every column of numbers is standardised, and bins are
cut at quantiles, by the training rows alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sklearn.datasets

from input_pipelines.configuration import TRAIN, VALIDATION
from input_pipelines.examples import Examples
from trainer.common import patterns, schema
from trainer.common.errors import ConfigError, unknown
from trainer.common.schema import setting

_TRAINING_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of one length.

    Attributes:
      numbers: columns of measurements.
      classes: columns of class indices, from 0.
    """

    numbers: Mapping[str, np.ndarray]
    classes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Target:
    columns: list[str] | None = setting(schema.optional(schema.sequence(schema.string)), None)
    classes: str | None = setting(schema.optional(schema.string), None)
    bins: int | None = setting(schema.optional(schema.integer(2)), None)


def linnerud(targets: Any, inputs: Any = None) -> dict[str, Examples]:
    """20 men: three exercises (Chins, Situps, Jumps) and three measures of the body (Weight, Waist, Pulse)."""
    data = sklearn.datasets.load_linnerud()
    columns = np.hstack([data.data, data.target])
    return load(Table(_named(columns, [*data.feature_names, *data.target_names])), targets, inputs)


def diabetes(targets: Any, inputs: Any = None) -> dict[str, Examples]:
    """442 patients: age, sex, bmi, bp and six serum measurements (s1 to s6); `progression` a year later."""
    data = sklearn.datasets.load_diabetes()
    return load(Table({**_named(data.data, data.feature_names), "progression": data.target}), targets, inputs)


def wine(targets: Any, inputs: Any = None) -> dict[str, Examples]:
    """178 wines: 13 measurements; the class `cultivar`, 0 to 2."""
    data = sklearn.datasets.load_wine()
    return load(Table(_named(data.data, data.feature_names), {"cultivar": data.target}), targets, inputs)


def breast_cancer(targets: Any, inputs: Any = None) -> dict[str, Examples]:
    """569 tumours: mean, error and worst of ten measurements; the class `diagnosis`, 0 malignant and 1 benign."""
    data = sklearn.datasets.load_breast_cancer()
    return load(Table(_named(data.data, data.feature_names), {"diagnosis": data.target}), targets, inputs)


def load(table: Table, targets: Any, inputs: Any = None) -> dict[str, Examples]:
    """The splits of a table.

    Args:
      table: its columns.
      targets: target name → `{"columns": [...]}`, a vector of standardised numbers; `{"classes": column}`, a column of
        class indices; or `{"classes": column, "bins": n}`, which of n equally frequent bins a number lies in.
      inputs: the columns that make the input vector, standardised; by default all numbers that no target is made of.
        Here and in `columns` a name may be a pattern, such as "mean *".

    Raises:
      ConfigError: a column that does not exist, or a target that is not one of these.
    """
    field = "dataset.options.targets"
    chosen = schema.mapping(schema.record(_Target), "target")(targets, field)
    for name, target in chosen.items():
        _check_kind(target, f"{field}.{name}")
    order = np.random.RandomState(0).permutation(len(next(iter(table.numbers.values()))))
    train, validation = np.split(order, [int(_TRAINING_SHARE * len(order))])

    made = {name: _target(table, target, train, f"{field}.{name}") for name, target in chosen.items()}
    if inputs is None:
        used = {column for target in chosen.values() for column in _columns_of(table, target, field)}
        names = _matching(table, [column for column in table.numbers if column not in used], "dataset.options.inputs")
    else:
        patterns = schema.sequence(schema.string)(inputs, "dataset.options.inputs")
        names = _matching(table, patterns, "dataset.options.inputs")
    vectors = _standardised(table, names, train)
    return {
        split: Examples(inputs=vectors[rows], targets={name: values[rows] for name, values in made.items()})
        for split, rows in ((TRAIN, train), (VALIDATION, validation))
    }


def _check_kind(target: _Target, field: str) -> None:
    if (target.columns is None) == (target.classes is None):
        raise ConfigError(field, ConfigError.ABSENT, "needs either 'columns' (numbers) or 'classes' (one column)")
    if target.columns is not None and target.bins is not None:
        raise ConfigError(f"{field}.bins", target.bins, "are for 'classes'; 'columns' are numbers as they are")


def _target(table: Table, target: _Target, train: np.ndarray, field: str) -> np.ndarray:
    if target.columns is not None:
        return _standardised(table, _matching(table, target.columns, f"{field}.columns"), train)
    if target.bins is None:
        if target.classes not in table.classes:
            if target.classes in table.numbers:
                raise ConfigError(
                    f"{field}.bins", ConfigError.ABSENT, f"{target.classes!r} holds numbers; say how many"
                )
            raise unknown(f"{field}.classes", target.classes, "column of classes", table.classes)
        return table.classes[target.classes]
    if target.classes not in table.numbers:
        raise unknown(f"{field}.classes", target.classes, "column of numbers", table.numbers)
    column = table.numbers[target.classes]
    inner = np.quantile(column[train], np.arange(1, target.bins) / target.bins)
    return np.searchsorted(inner, column, side="right")


def _columns_of(table: Table, target: _Target, field: str) -> list[str]:
    return [target.classes] if target.columns is None else _matching(table, target.columns, field)


def _matching(table: Table, names: Sequence[str], field: str) -> list[str]:
    """The columns of numbers that the patterns name, each once, in their order."""
    if not names:
        raise ConfigError(field, list(names), "must name at least one column")
    found: dict[str, None] = {}
    for index, pattern in enumerate(names):
        columns = patterns.matching(table.numbers, pattern)
        if not columns:
            raise unknown(f"{field}.{index}", pattern, "column of numbers", table.numbers)
        found.update(dict.fromkeys(columns))
    return list(found)


def _standardised(table: Table, names: Sequence[str], train: np.ndarray) -> np.ndarray:
    columns = np.stack([table.numbers[name] for name in names], axis=1)
    return (columns - columns[train].mean(axis=0)) / columns[train].std(axis=0)


def _named(columns: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {str(name): column for name, column in zip(names, columns.T, strict=True)}
