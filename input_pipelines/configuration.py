"""The settings of data in a configuration. Needs no TensorFlow.

A registered dataset (`digits`), or a function of the user's own by import path, gives finished examples:

    "dataset": {"name": "wine", "options": {"targets": {...}}}

A source (TFDS, CSV, Parquet, NPZ, TFRecord, images) gives named features, of which the configuration makes inputs,
targets and weights:

    "dataset": {
        "name": "csv",
        "path": "houses",
        "splits": {"train": "train.csv", "validation": "test.csv"},
        "targets": {"price": {"prepare": ["log", "standardise"]}, "sold": {"feature": "status", ...}},
    }
"""

import dataclasses
import os
import re
from typing import Any

from input_pipelines import part_settings
from input_pipelines.part_settings import FoldConfig, HeldOutConfig
from input_pipelines.registry import DATASETS, FREE_INPUTS, MADE_OF, SKIPPING, SOURCES, TFDS
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown
from trainer.common.schema import setting

FEEDS = ("auto", "memory", "streaming")
TRAIN, VALIDATION = part_settings.TRAIN, part_settings.VALIDATION
_OF_OTHERS = re.compile(r"[\w-]+:[A-Za-z]")  # `huggingface:glue`; what follows a dataset's own name is a number
MEAN = "mean"
_OPERATIONS = schema.sequence(schema.call("name"))


def _path(value: Any, field: str) -> str:
    """A file or folder; `~` is the user's home."""
    return os.path.expanduser(schema.string(value, field))


def filling(value: Any, field: str) -> float | str:
    """A number, or the name of a statistic, to put in the place of one that is missing."""
    if value == MEAN:
        return value
    try:
        return schema.real(value, field)
    except ConfigError as error:
        raise ConfigError(field, value, f"must be a finite number, or {MEAN!r}") from error


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """One input of the model: a feature, or several side by side, and how it is prepared."""

    feature: str | list[str] | None = setting(
        schema.optional(schema.one_or_each(schema.string)),
        None,
        "The feature, a nested one as `a/b`; several names or a pattern (`wage_*`) give a vector. None: the feature of "
        "its own name.",
    )
    prepare: list[dict[str, Any]] = setting(
        _OPERATIONS, [], "Operations that turn the feature into numbers for the model, in their order."
    )


@dataclasses.dataclass(frozen=True)
class TargetConfig(InputConfig):
    """One target, from a feature as an input is; where the feature is NaN, an example has no label."""

    missing: Any = setting(
        schema.optional(schema.scalar),
        None,
        "The value of the feature that means no label, besides NaN. None: only NaN.",
    )
    weight: str | None = setting(
        schema.optional(schema.string),
        None,
        "The feature that holds a weight for every label. None: all weigh the same.",
    )


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """A source of examples, and the inputs and targets that are made of them."""

    name: str | None = setting(
        schema.optional(schema.string),
        None,
        "A registered dataset (`digits`), a kind of source (`csv`, `npz`, `parquet`, `tfrecord`, `image_folder`, "
        "`table_of_images`, `tfds`), `tfds/<name>`, or a function of your own, `package.module:function`; must be "
        "given unless `sources` is.",
    )
    path: str | None = setting(
        schema.optional(_path), None, "The file or folder of a source, where it needs one; `~` is your home."
    )
    data_dir: str | None = setting(
        schema.optional(schema.string), None, "The folder in which TFDS keeps prepared data. None: TFDS's own."
    )
    options: dict[str, Any] = setting(
        schema.keyword_arguments, {}, "Arguments of the dataset's function, or options of the kind of source."
    )
    splits: dict[str, list[str]] = setting(
        schema.mapping(schema.sequence(schema.string), "split", empty=True),
        {},
        "What is `train`, what is `validation` and what are others that `evaluate` may name, such as `test`: files, "
        "folders or TFDS's splits. Empty: `train` and `validation` by their names.",
    )
    held_out: float | HeldOutConfig | None = setting(
        schema.optional(part_settings.held_out),
        None,
        "The share of the training examples, drawn once for all, on which to validate instead; or how they are chosen, "
        "also for other splits. None: the source's own validation split.",
    )
    fold: FoldConfig | None = setting(
        schema.optional(schema.record(FoldConfig)),
        None,
        "The fold of the training examples on which to validate instead. None: no folds.",
    )
    may_overlap: bool = setting(
        schema.boolean,
        False,
        "Whether examples of two splits may be the same ones (to see whether a model can learn a few by heart), and a "
        "file be read twice.",
    )
    inputs: dict[str, InputConfig] | None = setting(
        schema.optional(schema.mapping(schema.record(InputConfig), "input")),
        None,
        "The model's inputs by their names. None: of CSV and Parquet all columns that are no target; of a function its "
        "own.",
    )
    fill: float | str | None = setting(
        schema.optional(filling),
        None,
        "Where no inputs are named: what stands for a missing number, one of your own or `mean`, the column's mean in "
        "the training split. None: a missing number is an error.",
    )
    targets: dict[str, TargetConfig] | None = setting(
        schema.optional(schema.mapping(schema.record(TargetConfig), "target")),
        None,
        "The targets by their names; must be given for a source. None: of a function its own.",
    )
    augment: list[dict[str, Any]] = setting(_OPERATIONS, [], "Random changes of the training inputs, in their order.")
    feed: str = setting(
        schema.choice("way to feed", FEEDS),
        "auto",
        "`memory` holds the prepared examples, `streaming` reads them while training, `auto` streams what is larger "
        "than `memory_limit`.",
    )
    memory_limit: int = setting(schema.integer(1), 2**31, "Bytes of prepared examples up to which `auto` holds them.")
    window: int = setting(
        schema.integer(1), 8192, "About how many examples are read and shuffled together while streaming."
    )
    undecodable: str = setting(
        schema.choice("policy", ("stop", "skip")),
        "stop",
        "Whether images that do not decode end the run, or are left out and counted.",
    )


@dataclasses.dataclass(frozen=True)
class QuotaConfig(SourceConfig):
    """One of several sources, with its share of every batch."""

    quota: int = setting(schema.integer(1), 1, "Its share of a batch: its quota out of the sum of all quotas.")


@dataclasses.dataclass(frozen=True)
class DatasetConfig(SourceConfig):
    """A single source, or several in `sources`, each with its quota of every batch."""

    sources: dict[str, QuotaConfig] | None = setting(
        schema.optional(schema.mapping(schema.record(QuotaConfig), "source")),
        None,
        "Several sources by their names, instead of a single one. None: a single one.",
    )


def is_function(name: str) -> bool:
    """Returns True for the name of a dataset that is a function and gives finished examples."""
    return name in DATASETS or import_paths.is_path(name)


def tfds_name(name: str) -> str | None:
    """The name within TFDS's catalogue of `tfds/<name>`; None for other datasets."""
    kind, slash, rest = name.partition("/")
    return rest if kind == TFDS and slash else None


def made_of(name: str) -> str | None:
    """The dataset of TFDS's catalogue that a dataset is or is made of; None where it needs none."""
    return MADE_OF.get(name, tfds_name(name))


def kind_of(name: str) -> str:
    """The kind of source that a dataset's name means, one of `SOURCES`."""
    return TFDS if tfds_name(name) is not None else name


def parts(config: DatasetConfig) -> dict[str, SourceConfig]:
    """Configuration field → source: the one source, or each of several."""
    if config.sources is None:
        return {"dataset": config}
    return {f"dataset.sources.{name}": source for name, source in config.sources.items()}


def check(config: DatasetConfig) -> None:
    """Raises ConfigError where the settings of a dataset do not go together."""
    if config.sources is not None:
        _only_sources(config)
    for field, source in parts(config).items():
        _check_source(source, field)


def check_batch_size(config: DatasetConfig, batch_size: int, field: str) -> None:
    """Raises ConfigError where several sources cannot all have their quota of a batch."""
    if config.sources is None:
        return
    total = sum(source.quota for source in config.sources.values())
    if batch_size % total:
        raise ConfigError(field, batch_size, f"must be a multiple of {total}, the sum of the quotas of dataset.sources")


def _only_sources(config: DatasetConfig) -> None:
    default = DatasetConfig(**{field.name: field.metadata["default"] for field in dataclasses.fields(DatasetConfig)})
    for field in dataclasses.fields(SourceConfig):
        value = getattr(config, field.name)
        if value != getattr(default, field.name):
            raise ConfigError(f"dataset.{field.name}", value, "belongs to each of dataset.sources, not beside them")


def _check_source(config: SourceConfig, field: str) -> None:
    if config.name is None:
        raise ConfigError(f"{field}.name", ConfigError.ABSENT, "is missing and must be given")
    if is_function(config.name):
        for key in ("inputs", "targets", "splits", "held_out", "fold", "path", "fill"):
            if getattr(config, key) not in (None, {}):
                raise ConfigError(
                    f"{field}.{key}",
                    ConfigError.ABSENT,
                    f"is for sources ({', '.join(SOURCES)}); {config.name!r} is a function, give it {field}.options",
                )
        if config.feed == "streaming":
            raise ConfigError(f"{field}.feed", "streaming", f"{config.name!r} is a function that gives arrays")
        return
    kind = kind_of(config.name)
    if kind not in SOURCES:
        names = [*DATASETS, *SOURCES, f"{TFDS}/<name>", "package.module:function"]
        raise unknown(f"{field}.name", config.name, "dataset", names)
    if _OF_OTHERS.match(tfds_name(config.name) or ""):
        reason = "is not of TFDS's own catalogue: TFDS would download code and run it; prepare it, and give its folder"
        raise ConfigError(f"{field}.name", config.name, f"{reason} as 'path' with name='tfds'")
    if config.path is None and tfds_name(config.name) is None:
        raise ConfigError(f"{field}.path", ConfigError.ABSENT, f"is missing: the file or folder of {config.name!r}")
    if config.path is not None and tfds_name(config.name) is not None:
        raise ConfigError(f"{field}.path", config.path, "is for name='tfds'; tfds/<name> is found by its name")
    if not config.targets:
        raise ConfigError(f"{field}.targets", ConfigError.ABSENT, "is missing: which features are targets, and how")
    if config.inputs is None and kind not in FREE_INPUTS:
        raise ConfigError(f"{field}.inputs", ConfigError.ABSENT, "is missing: which features are inputs, and how")
    if config.inputs is not None and config.fill is not None:
        reason = "is for inputs that are not named; each of yours may have the operation 'fill' in 'prepare'"
        raise ConfigError(f"{field}.fill", config.fill, reason)
    if config.undecodable == "skip" and kind not in SKIPPING:
        raise ConfigError(f"{field}.undecodable", "skip", f"is for {' and '.join(SKIPPING)}")
    part_settings.check(config.held_out, config.fold, field)
    for split in part_settings.made(config.held_out, config.fold):
        if split in config.splits:
            key = "fold" if config.held_out is None else "held_out"
            reason = f"is for data without a {split} split of their own"
            raise ConfigError(f"{field}.{key}", ConfigError.ABSENT, reason)
    if config.splits and TRAIN not in config.splits:
        raise ConfigError(f"{field}.splits", sorted(config.splits), f"needs a {TRAIN!r} split")
