"""A split held in memory, checked against what every pipeline must yield."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.registry import DATASETS
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, first_line


@dataclasses.dataclass(frozen=True)
class Examples:
    """All examples of one split, as arrays with the examples along the first axis.

    Attributes:
      inputs: an array, or a dictionary of arrays.
      targets: target name → array.
      weights: target name → array of finite weights of at least 0, of shape (examples,) or any that fits the target
        from the left; only for targets with missing or weighted labels. A weight of 0 means the label is missing.
    """

    inputs: Any
    targets: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs)

    @property
    def structure(self) -> dict[str, Any]:
        """The arrays by the names that a pipeline yields: `inputs`, `targets` and, where given, `weights`."""
        inputs = dict(self.inputs) if isinstance(self.inputs, Mapping) else self.inputs
        parts = {"inputs": inputs, "targets": dict(self.targets)}
        return parts | ({"weights": dict(self.weights)} if self.weights else {})


@dataclasses.dataclass(frozen=True)
class Ordered:
    """A training split that is read while training, in the order in which a dataset of `tf.data` gives it.

    Attributes:
      first: the first examples, which show names, shapes and types.
      batches: a `tf.data.Dataset` of batches of any size, each of the form of `Examples.structure`.
      count: the number of examples; None where the dataset never ends.
      repeats: whether it gave the same first examples when it was read a second time.
    """

    first: Examples
    batches: Any
    count: int | None
    repeats: bool


EMPTY = "has a dimension of 0, so that an example of it holds nothing"


class NotFinite(NamedTuple):
    """A number that is NaN or infinite.

    Attributes:
      field: the configuration's key of the array.
      part: "inputs" or "targets".
      name: of the array.
      split: the split.
      example: its position in the split.
      value: the number.
      batch: the example by itself, as `Examples.structure`.
    """

    field: str
    part: str
    name: str
    split: str
    example: int
    value: float
    batch: dict[str, Any]


def load(config: SourceConfig, *, floatx: str, field: str = "dataset") -> dict[str, Examples | Ordered]:
    """The splits of a registered dataset or of a function of the user's own, checked; one object if it gives but one.

    Of an `Ordered` split only its first examples are checked.

    Args:
      config: the configuration of the dataset.
      floatx: type of floating-point numbers.
      field: the configuration's key, for errors.

    Raises:
      ConfigError: the dataset cannot be used.
    """
    arguments = dict(config.options) | ({"data_dir": config.data_dir} if config.data_dir is not None else {})
    path = DATASETS.get(config.name, config.name)
    splits = import_paths.call(path, arguments, field=f"{field}.name", arguments_field=f"{field}.options")
    if not isinstance(splits, Mapping) or not {TRAIN, VALIDATION} <= set(splits):
        raise ConfigError(f"{field}.name", config.name, f"must give the splits {TRAIN!r} and {VALIDATION!r}")
    for split in splits:
        if not isinstance(split, str) or not schema.NAME.fullmatch(split):
            reason = "a split's name is letters, digits, '_' and '-', starting with a letter"
            raise ConfigError(f"{field}.name", config.name, f"gives a split called {split!r}: {reason}")
    splits = {split: splits[split] for split in dict.fromkeys((TRAIN, VALIDATION, *splits))}
    checked = {split: _checked(f"{field}.{split}", examples, floatx) for split, examples in splits.items()}
    for split, examples in splits.items():
        if examples is splits[TRAIN]:
            checked[split] = checked[TRAIN]
    for split, examples in checked.items():
        _check_alike(f"{field}.{split}", _held(examples), _held(checked[TRAIN]))
    return checked


def not_finite(splits: Mapping[str, Examples | Ordered], field: str) -> tuple[NotFinite, ...]:
    """The first NaN or infinity of every array of inputs and targets of the splits, missing labels left out.

    A model or a loss of the user's own may take it, so that whoever has these decides.
    """
    found = []
    for split, examples in splits.items():
        held = _held(examples)
        for part in ("inputs", "targets"):
            for name, array in _as_dict(getattr(held, part)).items():
                if not np.issubdtype(array.dtype, np.floating) or not array.size:
                    continue
                if np.isfinite(array.min()) and np.isfinite(array.max()):  # without an array of the same size
                    continue
                where = np.argwhere(~np.isfinite(array))[0]
                batch = _one(held.structure, int(where[0]))
                value, at = float(array[tuple(where)]), f"{field}.{split}.{part}.{name}".rstrip(".")
                found.append(NotFinite(at, part, name, split, int(where[0]), value, batch))
    return tuple(found)


def check_weights(examples: Examples, field: str) -> None:
    """Raises ConfigError for weights that are not finite and at least 0, or that are all 0."""
    for name, weights in examples.weights.items():
        _check_weights(f"{field}.weights.{name}", weights)


def _checked(field: str, examples: Any, floatx: str, *, is_whole: bool = True) -> Any:
    if isinstance(examples, Ordered):
        return dataclasses.replace(examples, first=_checked(field, examples.first, floatx, is_whole=False))
    if not isinstance(examples, Examples):
        raise ConfigError(field, type(examples).__name__, "must be input_pipelines.examples.Examples")
    several = isinstance(examples.inputs, Mapping)
    for part in ("inputs", "targets"):
        _check_names(getattr(examples, part), f"{field}.{part}")
    parts = {
        "inputs": _arrays(examples.inputs if several else {"": examples.inputs}, f"{field}.inputs", floatx),
        "targets": _arrays(examples.targets, f"{field}.targets", floatx),
        "weights": _arrays(examples.weights or {}, f"{field}.weights", floatx, required=False),
    }
    count = len(next(iter(parts["inputs"].values())))
    if count == 0:
        raise ConfigError(field, count, "holds no example")
    for part, arrays in parts.items():
        for name, array in arrays.items():
            if len(array) != count:
                at = f"{field}.{part}.{name}".rstrip(".")
                raise ConfigError(at, len(array), f"must hold one entry for each of the {count} examples")
    for name, weights in parts["weights"].items():
        if name not in parts["targets"]:
            raise ConfigError(f"{field}.weights.{name}", ConfigError.ABSENT, "there is no target of that name")
        _check_weights(f"{field}.weights.{name}", weights, is_whole=is_whole)
        parts["targets"][name] = _without_missing(parts["targets"][name], weights)
    return Examples(parts["inputs"] if several else parts["inputs"][""], parts["targets"], parts["weights"])


def _arrays(arrays: Any, field: str, floatx: str, *, required: bool = True) -> dict[str, np.ndarray]:
    """A dictionary of numeric arrays with the examples along the first axis, floating-point ones as `floatx`."""
    if not isinstance(arrays, Mapping) or (required and not arrays):
        raise ConfigError(field, type(arrays).__name__, "must be a dictionary from names to arrays, with at least one")
    result = {}
    for name, values in arrays.items():
        at = f"{field}.{name}".rstrip(".")
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ConfigError(at, ConfigError.ABSENT, f"is not an array: {first_line(error)}") from error
        if array.ndim == 0 or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            raise ConfigError(
                at, f"{array.dtype}{list(array.shape)}", "must be an array of numbers, one entry per example"
            )
        if required and 0 in array.shape[1:]:
            raise ConfigError(at, f"{array.dtype}{list(array.shape)}", f"{EMPTY}; leave it out")
        result[name] = array.astype(floatx) if np.issubdtype(array.dtype, np.floating) else array
    return result


def _check_names(arrays: Any, field: str) -> None:
    """Raises ConfigError for a name that is no text: TensorFlow, files and the configuration need one."""
    for name in arrays if isinstance(arrays, Mapping) else ():
        if not isinstance(name, str) or not name.strip() or name != name.encode(errors="replace").decode():
            raise ConfigError(field, name, "a name must be a string that is not empty, of characters that UTF-8 has")


def _held(examples: Examples | Ordered) -> Examples:
    return examples.first if isinstance(examples, Ordered) else examples


def _check_alike(field: str, examples: Examples, train: Examples) -> None:
    """Every split has the shapes and types of the training split."""
    for part in ("inputs", "targets"):
        own, expected = (_as_dict(getattr(each, part)) for each in (examples, train))
        for name, array in expected.items():
            at = f"{field}.{part}.{name}".rstrip(".")
            if name not in own:
                raise ConfigError(at, ConfigError.ABSENT, "is missing; the training split has it")
            if own[name].shape[1:] != array.shape[1:] or own[name].dtype != array.dtype:
                given = f"{own[name].dtype}{list(own[name].shape[1:])}"
                raise ConfigError(at, given, f"must be as in the training split, {array.dtype}{list(array.shape[1:])}")


def _as_dict(arrays: Any) -> Mapping[str, np.ndarray]:
    return arrays if isinstance(arrays, Mapping) else {"": arrays}


def _one(structure: Any, example: int) -> Any:
    if isinstance(structure, Mapping):
        return {name: _one(entry, example) for name, entry in structure.items()}
    return structure[example : example + 1]


def _without_missing(target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`target` with zeros where its weight is 0: NaN there would reach the loss, because 0 · NaN is NaN."""
    weights = weights.reshape(weights.shape + (1,) * (target.ndim - weights.ndim))
    try:
        missing = np.broadcast_to(weights == 0, target.shape)
    except ValueError:  # weights of the loss's values rather than of the target's; the loss says whether they fit
        return target
    return np.where(missing, np.zeros((), target.dtype), target)


def _check_weights(field: str, weights: np.ndarray, *, is_whole: bool = True) -> None:
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        where = np.argwhere(wrong)[0]
        value = float(weights[tuple(where)])
        raise ConfigError(field, value, f"(example {where[0]}) weights must be finite and at least 0")
    if is_whole and not weights.any():
        raise ConfigError(field, 0.0, "all weights are 0, so no example has this label")
