"""Lines for the user about inputs that probably tell what they should not, from the first examples of training."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation import building
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.preparation.vocabulary_operations import Categories
from input_pipelines.sources.source import Source

_CORRELATED = 0.9999
_FEWEST = 10  # examples for a correlation
_RARE = math.log(1e-6)  # that values which have nothing to do with each other fit as well
_OWN_VALUES, _FEWEST_TEXTS = 0.9, 20
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class _Column:
    """One number or text for each of the first examples.

    Attributes:
      name: of the feature, with the place in it where it is a vector.
      codes: (examples,) which of its different values each has.
      present: (examples,) bool, whether it has one.
      numbers: (examples,) float64, NaN where absent; None for text.
    """

    name: str
    codes: np.ndarray
    present: np.ndarray
    numbers: np.ndarray | None

    @property
    def ranks(self) -> np.ndarray:
        """(examples,) float64, the mean rank of each value among those present; NaN where absent."""
        counts = np.bincount(self.codes[self.present], minlength=self.codes.max() + 1)
        return np.where(self.present, (np.cumsum(counts) - (counts - 1) / 2)[self.codes], np.nan)


def notes(config: SourceConfig, prepare: Preparation, train: Source, field: str) -> tuple[str, ...]:
    """Returns a line for each thing that is suspicious in the inputs, looking at single numbers and texts alone.

    Args:
      config: the source.
      prepare: how its inputs and targets are made.
      train: its training split.
      field: the configuration's key of the source.
    """
    inputs = _single(
        dict.fromkeys(name for chain in prepare.inputs.values() for name in chain.features), prepare.source, 1
    )
    chains = {name: _single(chain.features, prepare.source, 0) for name, chain in prepare.targets.items()}
    targets = {name: features for name, features in chains.items() if features == list(prepare.targets[name].features)}
    used = building.made_of(prepare.targets)
    weights = [chain.weight for chain in prepare.targets.values() if chain.weight is not None]
    names = list(dict.fromkeys([*inputs, *(name for each in targets.values() for name in each), *weights]))
    chunk = next(iter(train.chunks(names))) if inputs else {}
    columns = [column for name in inputs if name not in used for column in _columns(name, chunk[name])]
    return (
        *_left_out(config, prepare, train, field),
        *(
            f"{field}.inputs: {used[name]} is made of {name!r}, which is an input, too"
            for name in inputs
            if name in used
        ),
        *_predicted(prepare, targets, columns, chunk, field),
        *_own_values(prepare, chunk),
    )


def _left_out(config: SourceConfig, prepare: Preparation, train: Source, field: str) -> Iterator[str]:
    """Lines about columns that no one named and that are no inputs for it."""
    if config.inputs is not None:
        return
    used = prepare.features
    nameless = [name for name in train.features if building.is_nameless(name) and name not in used]
    if nameless:
        shown = ", ".join(map(repr, nameless[:_NAMED]))
        yield f"{field}.inputs: the column {shown} has no name of its own and is no input unless it is named"
    for name in building.told_apart_by(config):
        if name not in used:
            yield f"{field}.inputs: {name!r} says which examples are held out and is no input unless it is named"


def _predicted(
    prepare: Preparation,
    targets: Mapping[str, Sequence[str]],
    columns: Sequence[_Column],
    chunk: Mapping[str, np.ndarray],
    field: str,
) -> Iterator[str]:
    """Lines about targets that a single column predicts."""
    if not columns or not targets:
        return
    tables = {False: _table(columns, ranks=False), True: _table(columns, ranks=True)}
    for name, forms in _forms(prepare, targets, chunk).items():
        found: dict[str, str] = {}
        for form in forms:
            found |= _determined(columns, form) | _correlated(columns, tables, form) | found
        if found:
            shown = ", ".join(f"{column!r} ({why})" for column, why in list(found.items())[:_NAMED])
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            count = len(forms[0].codes)
            yield (
                f"{field}.targets.{name}: on the first {count:,} examples an input alone predicts it: {shown}{more}; "
                "leave out what is not known before the target is"
            )


def _forms(
    prepare: Preparation, targets: Mapping[str, Sequence[str]], chunk: Mapping[str, np.ndarray]
) -> dict[str, list[_Column]]:
    """Target → the features that it is made of, and what it is in the end, where that is one number."""
    wanted = prepare.of_targets(list(targets))
    made = wanted({name: tf.constant(chunk[name]) for name in wanted.features})
    found = {}
    for name, features in targets.items():
        forms = [column for feature in features for column in _columns(feature, chunk[feature])]
        values, weights = made["targets"][name].numpy(), made.get("weights", {}).get(name)
        if values.ndim == 1 and (weights is None or weights.shape.rank == 1):
            values = values.astype(np.float64)
            if weights is not None:
                values[weights.numpy() == 0] = np.nan
            forms += _columns(name, values)
        found[name] = forms
    return found


def _determined(columns: Sequence[_Column], target: _Column) -> dict[str, str]:
    """Columns of which each value has one value of a target alone, where that is hardly chance → how they predict it.

    Of all orders of the target's values, at most (its number of values) ^ (the column's) fit as well.
    """
    labels = np.unique(target.codes[target.present], return_inverse=True)[1]
    kinds = np.bincount(labels)
    if len(kinds) < 2:
        return {}
    orders = math.lgamma(len(labels) + 1) - sum(math.lgamma(count + 1) for count in kinds)
    found = {}
    for column in columns:
        codes = column.codes[target.present]
        label_of = np.full(column.codes.max() + 1, -1)
        label_of[codes] = labels
        values = int((label_of >= 0).sum())
        if values * math.log(len(kinds)) - orders < _RARE and np.array_equal(label_of[codes], labels):
            found[column.name] = "one value of the target for each of its values"
    return found


def _correlated(columns: Sequence[_Column], tables: Mapping[bool, np.ndarray], target: _Column) -> dict[str, str]:
    """Columns of numbers that rise and fall with a target → their correlation, of the values or of their ranks."""
    if target.numbers is None or len(np.unique(target.codes[target.present])) < _FEWEST:
        return {}
    numbers = [column.name for column in columns if column.numbers is not None]
    found = {}
    for of_ranks, table in tables.items():
        strength = np.abs(_correlations(table, target.ranks if of_ranks else target.numbers))
        what = "|r| of the ranks" if of_ranks else "|r|"
        found |= {numbers[at]: f"{what} {strength[at]:.5f}" for at in np.flatnonzero(strength > _CORRELATED)} | found
    return found


def _correlations(table: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(columns,) each column's correlation with a target over the examples that have both; 0 where they are few."""
    there = ~np.isnan(table) & ~np.isnan(target)[:, np.newaxis]
    counts = np.maximum(there.sum(0), 1)

    def centred(values: np.ndarray) -> np.ndarray:
        values = np.where(there, values, 0)
        return np.where(there, values - values.sum(0) / counts, 0)

    x, y = centred(table), centred(target[:, np.newaxis])
    spread = np.sqrt((x * x).sum(0) * (y * y).sum(0))
    valid = (counts >= _FEWEST) & (spread > 0)
    return np.divide((x * y).sum(0), spread, out=np.zeros(len(counts)), where=valid)


def _table(columns: Sequence[_Column], *, ranks: bool) -> np.ndarray:
    """(examples, columns) float64: the columns of numbers, or their ranks."""
    numbers = [column.ranks if ranks else column.numbers for column in columns if column.numbers is not None]
    return np.stack(numbers, 1) if numbers else np.zeros((len(columns[0].codes), 0))


def _own_values(prepare: Preparation, chunk: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Lines about text that is made categories of and nearly always differs."""
    for chain in prepare.inputs.values():
        if not any(isinstance(operation, Categories) for operation in chain.operations):
            continue
        for name in chain.features:
            if name not in chunk or prepare.source[name].dtype != tf.string or chunk[name].ndim > 1:
                continue
            texts = [text for text in chunk[name] if text]
            different = len(set(texts))
            if len(texts) >= _FEWEST_TEXTS and different > _OWN_VALUES * len(texts):
                yield (
                    f"{chain.field}: {name!r} has {different:,} different texts in the first {len(texts):,} examples "
                    "that have one; categories of it say nothing about new examples"
                )


def _single(names: Iterable[str], features: Mapping[str, tf.TensorSpec], rank: int) -> list[str]:
    """Those of the features that hold numbers or texts of at most this rank."""
    shapes = {name: features[name].shape for name in names}
    return [name for name, shape in shapes.items() if shape.is_fully_defined() and shape.rank <= rank]


def _columns(name: str, values: np.ndarray) -> list[_Column]:
    """The columns of (examples,) or (examples, n) values."""
    if values.ndim > 1:
        return [_column(f"{name}[{at}]", values[:, at]) for at in range(values.shape[1])]
    return [_column(name, values)]


def _column(name: str, values: np.ndarray) -> _Column:
    if values.dtype == object:
        place: dict[bytes, int] = {}
        codes = np.array([place.setdefault(text, len(place)) for text in values])
        return _Column(name, codes, np.array([text != b"" for text in values]), None)
    numbers = values.astype(np.float64)
    return _Column(name, np.unique(values, return_inverse=True)[1].reshape(-1), ~np.isnan(numbers), numbers)
