"""From a source's configuration to chains: their features, their operations, the value for a missing label."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import InputConfig, SourceConfig, TargetConfig
from input_pipelines.preparation import operations
from input_pipelines.preparation.chain import Chain
from input_pipelines.preparation.class_operations import Bins, Equals, Groups, OneHot, Threshold
from input_pipelines.preparation.number_operations import Fill, Standardise
from input_pipelines.preparation.picture_operations import BILINEAR, NEAREST, CentralCrop, Reshape, Resize
from input_pipelines.preparation.values import as_held
from input_pipelines.preparation.vocabulary_operations import Categories, Classes
from input_pipelines.sources.source import Source
from trainer.common import patterns
from trainer.common.errors import ConfigError, unknown

_NUMBERS, _CATEGORIES = "numbers", "categories"
_NAMELESS = re.compile(r"|Unnamed: \d+(_level_\d+)?|__index_level_\d+__")  # of pandas' index in CSV and in Parquet
_MAKE_CLASSES = (Bins, Threshold, Equals, Groups, OneHot, Categories, Classes)
_MOVE = (Resize, CentralCrop, Reshape)


def inputs(config: SourceConfig, field: str, train: Source, targets: Mapping[str, Chain]) -> dict[str, Chain]:
    """Returns input name → its chain: as configured, or by default of the columns that no target is made of."""
    if config.inputs is None:
        found = _free_inputs(config, f"{field}.inputs", train, _not_free(config, train, targets))
    else:
        found = _named_inputs(config, field, train, targets)
    for name, chain in found.items():
        if chain.operations and isinstance(chain.operations[0], Categories):
            # The number that stands for an absent one can be a category of its own.
            found[name] = dataclasses.replace(chain, optional=False)
        else:
            _refuse_absent_numbers(chain, train)
    return found


def _named_inputs(config: SourceConfig, field: str, train: Source, targets: Mapping[str, Chain]) -> dict[str, Chain]:
    """Input name → its chain, as configured; a pattern never takes what a target or a weight is made of."""
    taken = _not_free(config, train, targets)
    named = (config.inputs or {}).items()
    return {name: _chain(each, f"{field}.inputs.{name}", name, train, taken) for name, each in named}


def is_nameless(feature: str) -> bool:
    """Returns True for the name of a column that no one has named: pandas' index."""
    return _NAMELESS.fullmatch(feature) is not None


def told_apart_by(config: SourceConfig) -> list[str]:
    """The features that say which examples are held out."""
    ways = [getattr(chosen, key, None) for chosen in (config.held_out, config.fold) for key in ("by", "last_by")]
    return [name for name in ways if name is not None]


def made_of(targets: Mapping[str, Chain]) -> dict[str, str]:
    """The features that targets and their weights are made of → which of them, in words."""
    weights = {chain.weight: f"the weight of target {name!r}" for name, chain in targets.items() if chain.weight}
    return weights | {feature: f"target {name!r}" for name, chain in targets.items() for feature in chain.features}


def _not_free(config: SourceConfig, train: Source, targets: Mapping[str, Chain]) -> set[str]:
    """The features that are inputs only by their own names."""
    return {*made_of(targets), *told_apart_by(config), *filter(is_nameless, train.features)}


def targets(config: SourceConfig, field: str, train: Source) -> dict[str, Chain]:
    """Returns target name → its chain."""
    return {name: _target(target, f"{field}.targets.{name}", name, train) for name, target in config.targets.items()}


def sizes(config: SourceConfig, field: str, train: Source) -> dict[str, Resize]:
    """Feature → the size to bring its pictures to as they are read, because their own sizes vary.

    Raises:
      ConfigError: such a feature is prepared in another way first.
    """
    found: dict[str, Resize] = {}
    made = targets(config, field, train)
    for chain in (*_named_inputs(config, field, train, made).values(), *made.values()):
        at = f"{chain.field}.prepare"
        for feature in chain.features:
            shape = train.features[feature].shape
            if shape.is_fully_defined():
                continue
            first = chain.operations[0] if chain.operations else None
            if not isinstance(first, Resize):
                reason = f"has shape {tuple(shape)}, which varies: begin with the operation 'resize'"
                raise ConfigError(at, feature, reason)
            if chain.missing is not None and first.method != NEAREST:
                reason = f"would mix pixels without a label (missing={chain.missing}) with others; {NEAREST!r} does not"
                raise ConfigError(f"{at}.0.method", first.method or BILINEAR, reason)
            if found.setdefault(feature, first) != first:
                raise ConfigError(f"{at}.0", feature, "must have the size that its other uses give it")
    return found


def _chain(config: InputConfig, field: str, name: str, source: Source, taken: Collection[str] = ()) -> Chain:
    features = _features(config, field, name, source, taken)
    return Chain(
        field,
        features,
        tuple(operations.build(config.prepare, f"{field}.prepare")),
        optional=any(name in source.optional for name in features),
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
        operations=_keeping_classes(chain, source),
        missing=_as_value_of(chain.features, source, config.missing, f"{field}.missing"),
        weight=config.weight,
        is_target=True,
    )


def _keeping_classes(chain: Chain, source: Source) -> tuple[Any, ...]:
    """A target's operations: of those that resize, "nearest" where they would mix classes, unless they say how."""
    return tuple(
        dataclasses.replace(operation, method=NEAREST)
        if isinstance(operation, Resize) and operation.method is None and _holds_classes(chain, index, source)
        else operation
        for index, operation in enumerate(chain.operations)
    )


def _holds_classes(chain: Chain, index: int, source: Source) -> bool:
    """Returns True where a target holds whole numbers in the end, and before its operation `index` already."""
    if any(isinstance(operation, _MAKE_CLASSES) for operation in chain.operations[:index]):
        return True
    if not all(isinstance(operation, (*_MAKE_CLASSES, *_MOVE)) for operation in chain.operations):
        return False
    specs = [source.features[name] for name in chain.features]
    if any(spec.shape.rank == 3 and spec.shape[-1] != 1 for spec in specs):  # a picture in colour
        return False
    if not any(spec.dtype.is_floating for spec in specs):
        return True
    if not all(spec.shape.is_fully_defined() for spec in specs):
        return False
    chunk = next(source.chunks(chain.features))
    return not any(np.any(np.nan_to_num(values) % 1) for values in chunk.values() if values.dtype != object)


def _as_value_of(names: Sequence[str], source: Source, value: Any, field: str) -> Any:
    """`value` as features hold it; raises ConfigError for one that they cannot have."""
    if value is None:
        return None
    kinds = {source.features[name].dtype for name in names}
    kind = kinds.pop() if len(kinds) == 1 else tf.string if tf.string in kinds else tf.float64
    try:
        return as_held(value, kind)
    except ValueError as error:
        reason = f"must be a value that {', '.join(names[:3])} can have, {kind.name}"
        raise ConfigError(field, value, reason) from error


def _features(
    config: InputConfig, field: str, name: str, source: Source, taken: Collection[str] = ()
) -> tuple[str, ...]:
    """The features that names and patterns choose; patterns choose none of those `taken`."""
    at = f"{field}.feature"
    given = [name] if config.feature is None else config.feature
    found: dict[str, None] = {}
    for pattern in [given] if isinstance(given, str) else given:
        matching = patterns.matching(source.features, pattern)
        if not matching:
            _check_exists(pattern, at, source)
        free = [feature for feature in matching if feature == pattern or feature not in taken]
        if not free:
            why = "targets or weights are made of, that tells splits apart or that no one named"
            reason = f"matches {', '.join(matching[:3])}, what {why}, and nothing else"
            raise ConfigError(at, pattern, reason)
        found.update(dict.fromkeys(free))
    return tuple(found)


def _check_exists(name: str, field: str, source: Source) -> None:
    if name not in source.features:
        raise unknown(field, name, "feature", source.features)


def _refuse_absent_numbers(chain: Chain, source: Source) -> None:
    """Raises ConfigError for an input of whole numbers that may be absent, which would be NaN.

    In splits held as arrays every value is looked at, and an error says where one is absent.
    """
    if source.records is None:
        return
    for name in chain.features:
        if name in source.optional and source.features[name].dtype == tf.int64:
            reason = "is a whole number that examples may lack; as an input, prepare it with 'categories' first"
            raise ConfigError(f"{chain.field}.feature", name, reason)


def _free_inputs(config: SourceConfig, field: str, source: Source, taken: Collection[str]) -> dict[str, Chain]:
    """Inputs made of the columns that are not taken: numbers filled and standardised, text as categories."""
    free = {name: spec for name, spec in source.features.items() if name not in taken}
    text = tuple(name for name, spec in free.items() if spec.dtype == tf.string)
    numbers = tuple(name for name in free if name not in text)
    if not free:
        raise ConfigError(field, ConfigError.ABSENT, "no column is left that no target or weight is made of")
    found = {}
    if numbers:
        filled = () if config.fill is None else (Fill(config.fill),)
        optional = any(name in source.optional for name in numbers)
        found[_NUMBERS] = Chain(f"{field}.{_NUMBERS}", numbers, (*filled, Standardise()), optional=optional)
    if text:
        found[_CATEGORIES] = Chain(f"{field}.{_CATEGORIES}", text, (Categories(minimum=1),))
    return found
