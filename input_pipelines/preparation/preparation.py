"""From a source's features to inputs, targets and weights: which features, what is made of them, which labels miss."""

import dataclasses
import fnmatch
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.configuration import InputConfig, SourceConfig, TargetConfig
from input_pipelines.preparation import operations as operations_lib
from input_pipelines.sources.source import ABSENT_INTEGER, Source
from trainer.common.errors import ConfigError, first_line, unknown

Batch = Mapping[str, tf.Tensor]
Statistics = dict[str, list[dict[str, Any]]]
_FAILURES = (ValueError, TypeError, tf.errors.OpError)
_NUMBERS, _CATEGORIES = "numbers", "categories"


@dataclasses.dataclass(frozen=True)
class Chain:
    """How one input or target is made.

    Attributes:
      field: the configuration's key.
      features: the features it is made of; more than one are put side by side.
      operations: what is done to them, in order.
      missing: value that means that there is no label.
      weight: feature of weights per example.
      is_target: whether labels may be missing.
      optional: whether a feature may be absent.
    """

    field: str
    features: tuple[str, ...]
    operations: tuple[Any, ...]
    missing: Any = None
    weight: str | None = None
    is_target: bool = False
    optional: bool = False

    def values(self, batch: Batch) -> tf.Tensor:
        """The features as they are, side by side on the last axis if there are several."""
        tensors = [tf.convert_to_tensor(batch[name]) for name in self.features]
        if len(tensors) == 1:
            return tensors[0]
        if any(tensor.dtype == tf.string for tensor in tensors):
            tensors = [each if each.dtype == tf.string else tf.strings.as_string(each) for each in tensors]
        elif len({tensor.dtype for tensor in tensors}) > 1:
            tensors = [tf.cast(tensor, tf.float64) for tensor in tensors]
        return tf.concat([each if each.shape.rank > 1 else each[:, tf.newaxis] for each in tensors], axis=-1)

    def present(self, values: tf.Tensor) -> tf.Tensor | None:
        """Where there is a label: bool, of the values' shape; None: everywhere."""
        missing = []
        if values.dtype.is_floating:
            missing.append(tf.math.is_nan(values))
        if values.dtype == tf.string:
            missing.append(tf.equal(values, ""))
        if self.optional and values.dtype == tf.int64:
            missing.append(tf.equal(values, ABSENT_INTEGER))
        if self.missing is not None:
            missing.append(tf.equal(values, tf.constant(self.missing, values.dtype)))
        return tf.logical_not(tf.reduce_any(tf.stack(missing), axis=0)) if missing else None

    def steps(self, values: tf.Tensor, learned: Sequence[dict[str, Any]]) -> Iterator[tf.Tensor]:
        """The values before the first operation and after each one of which `learned` is known."""
        yield values
        for index, (operation, of_operation) in enumerate(zip(self.operations, learned, strict=False)):
            try:
                values = operation(values, of_operation)
            except _FAILURES as error:
                raise self._failure(index, values, error) from error
            yield values

    def collect(self, so_far: Any, values: tf.Tensor, present: np.ndarray, learned: Sequence[dict[str, Any]]) -> Any:
        """What the first operation of which `learned` says nothing gathers from a chunk, prepared up to there."""
        try:
            return self.operations[len(learned)].collect(so_far, values.numpy(), present)
        except _FAILURES as error:
            raise self._failure(len(learned), values, error) from error

    def _failure(self, index: int, values: tf.Tensor, error: Exception) -> ConfigError:
        given = f"{values.dtype.name}{list(values.shape[1:])}"
        return ConfigError(
            f"{self.field}.prepare.{index}",
            operations_lib.name_of(self.operations[index]),
            f"fails on {', '.join(self.features[:3])} ({given}): {first_line(error)}",
        )

    def prepared(self, values: tf.Tensor, learned: Sequence[dict[str, Any]]) -> tf.Tensor:
        """The values after all operations, real numbers in the run's precision."""
        *_, result = self.steps(values, learned)
        if result.dtype == tf.string:
            raise ConfigError(
                self.field,
                ", ".join(self.features[:3]),
                "holds text; prepare it with 'categories', 'classes' or 'equals'",
            )
        return tf.cast(result, keras.config.floatx()) if result.dtype.is_floating or result.dtype == tf.bool else result


@dataclasses.dataclass(frozen=True)
class Preparation:
    """All inputs and targets of a source.

    Attributes:
      inputs: input name → how it is made.
      targets: target name → how it is made.
      statistics: the configuration's key of an input or target → what each of its operations learned.
      source: feature → specification of one example, the same in every split.
    """

    inputs: Mapping[str, Chain]
    targets: Mapping[str, Chain]
    statistics: Statistics
    source: Mapping[str, tf.TensorSpec]

    @property
    def features(self) -> list[str]:
        """The features that it needs."""
        chains = [*self.inputs.values(), *self.targets.values()]
        names = [name for chain in chains for name in chain.features]
        return list(dict.fromkeys([*names, *(chain.weight for chain in chains if chain.weight is not None)]))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """`inputs` (the tensor itself where there is but one), `targets` and `weights` of a batch of features.

        Every target of real numbers, or with a value that means "missing", has weights: 0 where there is no label.
        """
        inputs = {name: chain.prepared(chain.values(batch), self._of(chain)) for name, chain in self.inputs.items()}
        targets, weights = {}, {}
        for name, chain in self.targets.items():
            values = chain.values(batch)
            present = chain.present(values)
            if present is not None and values.dtype != tf.string:
                values = tf.where(present, values, tf.zeros((), values.dtype))
            target = chain.prepared(values, self._of(chain))
            if present is not None:
                present = _fitted(present, target)
                # What stands for a missing label need not be among the classes.
                target = tf.where(_as_wide(present, target), target, tf.zeros((), target.dtype))
                weights[name] = tf.cast(present, keras.config.floatx())
            if chain.weight is not None:
                weights[name] = _weighed(weights.get(name), batch[chain.weight])
            targets[name] = target
        parts = {"inputs": next(iter(inputs.values())) if len(inputs) == 1 else inputs, "targets": targets}
        return parts | ({"weights": weights} if weights else {})

    @functools.cached_property
    def compiled(self) -> Any:
        """The same as a graph for batches of any size."""
        features = {name: self.source[name] for name in self.features}
        wide = {name: tf.TensorSpec((None, *leaf.shape), leaf.dtype) for name, leaf in features.items()}
        return tf.function(self.__call__, autograph=False).get_concrete_function(wide)

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """What it makes of an example, as `tf.TensorSpec`s."""
        outputs = self.compiled.structured_outputs
        return tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape[1:], leaf.dtype), outputs)

    def categories(self) -> dict[str, tuple[int, ...]]:
        """Input name → the number of categories of each column, for inputs that are categorical in the end."""
        found = {}
        for name, chain in self.inputs.items():
            last = chain.operations[-1] if chain.operations else None
            if hasattr(last, "categories"):
                found[name] = last.categories(self._of(chain)[-1], len(chain.features))
        return found

    def _of(self, chain: Chain) -> list[dict[str, Any]]:
        return self.statistics[chain.field]


def build(config: SourceConfig, field: str, train: Source, statistics: Statistics | None) -> Preparation:
    """The preparation of a source, with what it learns from the training split.

    Args:
      config: the source's configuration.
      field: its key.
      train: the training split.
      statistics: what an earlier process of the same run learned; None: learn it now.

    Raises:
      ConfigError: a feature or an operation that does not exist or does not fit.
    """
    targets = {name: _target(target, f"{field}.targets.{name}", name, train) for name, target in config.targets.items()}
    if config.inputs is None:
        inputs = _free_inputs(f"{field}.inputs", train, targets)
    else:
        inputs = {name: _chain(each, f"{field}.inputs.{name}", name, train) for name, each in config.inputs.items()}
    for chain in inputs.values():
        _refuse_absent_numbers(chain, train)
    chains = [*inputs.values(), *targets.values()]
    if statistics is None or set(statistics) != {chain.field for chain in chains}:
        statistics = _learn(chains, train)
    return Preparation(inputs, targets, statistics, train.features)


def sizes(config: SourceConfig, field: str, train: Source) -> dict[str, operations_lib.Resize]:
    """Feature → the size to bring its pictures to as they are read, because their own sizes vary.

    Raises:
      ConfigError: such a feature is prepared in another way first.
    """
    found = {}
    for part in ("inputs", "targets"):
        for name, each in (getattr(config, part) or {}).items():
            at = f"{field}.{part}.{name}"
            for feature in _features(each, at, name, train):
                if train.features[feature].shape.is_fully_defined():
                    continue
                first = operations_lib.build(each.prepare[:1], f"{at}.prepare")
                if not first or not isinstance(first[0], operations_lib.Resize):
                    shape = tuple(train.features[feature].shape)
                    raise ConfigError(
                        f"{at}.prepare", feature, f"has shape {shape}, which varies: begin with the operation 'resize'"
                    )
                if found.setdefault(feature, first[0]) != first[0]:
                    raise ConfigError(f"{at}.prepare.0", feature, "must have the size that its other uses give it")
    return found


def _chain(config: InputConfig, field: str, name: str, source: Source) -> Chain:
    return Chain(
        field, _features(config, field, name, source), tuple(operations_lib.build(config.prepare, f"{field}.prepare"))
    )


def _target(config: TargetConfig, field: str, name: str, source: Source) -> Chain:
    if config.weight is not None:
        _check_exists(config.weight, f"{field}.weight", source)
        weight = source.features[config.weight]
        if weight.shape.rank or weight.dtype == tf.string:
            given = f"{weight.dtype.name}{list(weight.shape)}"
            raise ConfigError(f"{field}.weight", config.weight, f"must be a number for each example, but is {given}")
    chain = _chain(config, field, name, source)
    return dataclasses.replace(
        chain,
        missing=_as_value_of(chain.features, source, config.missing, f"{field}.missing"),
        weight=config.weight,
        is_target=True,
        optional=any(name in source.optional for name in chain.features),
    )


def _as_value_of(names: Sequence[str], source: Source, value: Any, field: str) -> Any:
    """`value` as features hold it; raises ConfigError for one that they cannot have."""
    if value is None:
        return None
    kinds = {source.features[name].dtype for name in names}
    if tf.string in kinds:
        return str(value)
    kind = kinds.pop() if len(kinds) == 1 else tf.float64
    fits = isinstance(value, bool) == (kind == tf.bool) and isinstance(value, bool | int | float)
    if not fits or (kind.is_integer and not (value % 1 == 0 and kind.min <= value <= kind.max)):
        raise ConfigError(field, value, f"must be a value that {', '.join(names[:3])} can have, {kind.name}")
    return int(value) if kind.is_integer else value


def _features(config: InputConfig, field: str, name: str, source: Source) -> tuple[str, ...]:
    at = f"{field}.feature"
    patterns = [name] if config.feature is None else config.feature
    found: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = [feature for feature in source.features if fnmatch.fnmatchcase(feature, pattern)]
        if not matching:
            _check_exists(pattern, at, source)
        found.update(dict.fromkeys(matching))
    return tuple(found)


def _check_exists(name: str, field: str, source: Source) -> None:
    if name not in source.features:
        raise unknown(field, name, "feature", source.features)


def _refuse_absent_numbers(chain: Chain, source: Source) -> None:
    """What stands for an absent whole number is a category of its own, but no number."""
    if chain.operations and isinstance(chain.operations[0], operations_lib.Categories):
        return
    for name in chain.features:
        if name in source.optional and source.features[name].dtype == tf.int64:
            reason = "is a whole number that examples may lack; as an input, prepare it with 'categories' first"
            raise ConfigError(f"{chain.field}.feature", name, reason)


def _free_inputs(field: str, source: Source, targets: Mapping[str, Chain]) -> dict[str, Chain]:
    """Columns of which no target is made: numbers standardised, text as categories."""
    used = {name for chain in targets.values() for name in (*chain.features, chain.weight)}
    free = {name: spec for name, spec in source.features.items() if name not in used}
    text = tuple(name for name, spec in free.items() if spec.dtype == tf.string)
    numbers = tuple(name for name in free if name not in text)
    if not free:
        raise ConfigError(field, ConfigError.ABSENT, "no column is left that no target or weight is made of")
    found = {}
    if numbers:
        found[_NUMBERS] = Chain(f"{field}.{_NUMBERS}", numbers, (operations_lib.Standardise(),))
    if text:
        found[_CATEGORIES] = Chain(f"{field}.{_CATEGORIES}", text, (operations_lib.Categories(minimum=1),))
    return found


def _learn(chains: Sequence[Chain], train: Source) -> Statistics:
    """What every operation learns: a pass over the training split for the first of each chain, and so on."""
    learned: Statistics = {chain.field: [] for chain in chains}
    while True:
        waiting = []
        for chain in chains:
            known = learned[chain.field]
            while len(known) < len(chain.operations) and not operations_lib.learns(chain.operations[len(known)]):
                known.append({})
            if len(known) < len(chain.operations):
                waiting.append(chain)
        if not waiting:
            return learned
        collected = dict.fromkeys((chain.field for chain in waiting), None)
        for batch in train.chunks(list(dict.fromkeys(name for chain in waiting for name in chain.features))):
            for chain in waiting:
                raw = chain.values(batch)
                *_, values = chain.steps(raw, learned[chain.field])
                present = chain.present(raw) if chain.is_target else None
                shown = np.ones(values.shape, bool) if present is None else _as_wide(_fitted(present, values), values)
                collected[chain.field] = chain.collect(
                    collected[chain.field], values, np.asarray(shown), learned[chain.field]
                )
        for chain in waiting:
            operation = chain.operations[len(learned[chain.field])]
            learned[chain.field].append(operation.learned(collected[chain.field]))


def _fitted(present: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`present` where it fits the values from the left, else whether all of an example is present: (examples,)."""
    shape, own = present.shape[1:], values.shape[1:]
    if shape.rank and shape.as_list() != own.as_list()[: shape.rank]:
        return tf.reduce_all(tf.reshape(present, [tf.shape(present)[0], -1]), axis=1)
    return present


def _as_wide(present: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    extra = (tf.newaxis,) * (values.shape.rank - present.shape.rank)
    return tf.broadcast_to(present[(..., *extra)], tf.shape(values))


def _weighed(present: tf.Tensor | None, weights: tf.Tensor) -> tf.Tensor:
    weights = tf.cast(weights, keras.config.floatx())
    if present is None:
        return weights
    return present * tf.reshape(weights, [-1] + [1] * (present.shape.rank - 1))
