"""The configuration: a Python file's `get_config()`, overrides from the command line, and what must hold of the result.

Nothing here needs TensorFlow, so mistakes are answered at once.
"""

import ast
import dataclasses
import json
import pathlib
import re
import traceback
import types
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from input_pipelines import configuration as data_configuration
from input_pipelines.configuration import DatasetConfig
from trainer import durations, files, imports, schema
from trainer.combine import registry
from trainer.combine.registry import METHODS, ONE_PASS, LooksAt
from trainer.errors import ConfigError, first_line, unknown
from trainer.schema import setting

PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
REDUCTIONS = ("per_loss", "fused")
DEFAULT_MODEL = "trunk_and_heads"
_ADAM = {"name": "adam", "learning_rate": 1e-3}
_RATES = ("learning_rate", "initial_learning_rate", "warmup_target", "end_learning_rate")


def load(
    path: str,
    overrides: Sequence[tuple[str, str]] = (),
    combine: str | None = None,
    reduction: str | None = None,
) -> "Config":
    """Reads a configuration file, applies overrides and resolves every default.

    Args:
      path: a Python file with `get_config()` returning an `ml_collections.ConfigDict`.
      overrides: (dotted key, text) pairs, as from `--config.batch_size=512`.
      combine: replaces `combine.name` where given, as `--combine` does.
      reduction: replaces `reduction` where given, as `--reduction` does.

    Returns:
      The resolved configuration: every setting present and checked.

    Raises:
      ConfigError: the file or a value cannot be used.
    """
    tree = _read(_run_file(path), path)
    for key, text in overrides:
        _override(tree, key, text)
    if combine is not None:
        if combine not in METHODS:
            raise unknown("--combine", combine, "combination", METHODS)
        _override(tree, "combine.name", repr(combine))
    if reduction is not None:
        _override(tree, "reduction", repr(reduction))
    return resolve(tree)


def resolve(tree: Mapping[str, Any]) -> "Config":
    """Checks a nested dictionary of settings and fills in every default; raises ConfigError."""
    config = _with_own_names(schema.record(Config)(_plain(tree), ""))
    _check_optimizers(config)
    _check_losses(config)
    _check_names(config)
    config = _check_combination(config)
    _check_step(config)
    return config


def to_json(config: "Config") -> str:
    """A resolved configuration as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def save(config: "Config", path: pathlib.Path) -> None:
    """Writes a resolved configuration as JSON."""
    files.write_whole(path, to_json(config))


def load_saved(path: pathlib.Path, overrides: Sequence[tuple[str, str]] = ()) -> "Config":
    """Reads a configuration that `save` wrote; raises ConfigError where it cannot be read."""
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "--workdir", str(path.parent), f"holds no readable run ({path.name}: {first_line(error)})"
        ) from error
    for key, text in overrides:
        _override(tree, key, text)
    return resolve(tree)


# ---------------------------------------------------------------------------------------------------------------------
# What a configuration holds.
# ---------------------------------------------------------------------------------------------------------------------

# Names that mean something else beside losses' names in reports and checkpoints.
_RESERVED = ("loss", "grad_norm", "cosine", "weight", "learning_rate", "step", "split", "shared")
_OPTIMIZER = schema.call("name")
_LAYERS = schema.sequence(schema.call("layer"))


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """One named loss: the head (or a slice of its last axis) and the target it compares, how, and its own optimizer.

    Head and target are by default those of the loss's own name. It takes part in every `every`-th step from step
    `offset` (counted from 0) on; its weight may be a schedule over steps; `variables` are patterns of the only
    variables it updates (`trunk_*`).
    """

    head: str | None = setting(schema.optional(schema.string), None)
    target: str | None = setting(schema.optional(schema.string), None)
    loss: dict[str, Any] = setting(schema.call("name"))
    slice: tuple[int, int] | None = setting(schema.optional(schema.interval), None)
    weight: float | dict[str, Any] = setting(schema.either(schema.number(), schema.call("name")), 1.0)
    every: int = setting(schema.integer(1), 1)
    offset: int = setting(schema.integer(0), 0)
    variables: list[str] | None = setting(schema.optional(schema.sequence(schema.string)), None)
    normalizer: str = setting(schema.choice("normalizer", ("weights", "examples")), "weights")
    metrics: list[dict[str, Any]] = setting(schema.sequence(schema.call("name")), [])
    optimizer: dict[str, Any] = setting(_OPTIMIZER, _ADAM)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A trunk and named heads, each a list of Keras layers; or a model of the user's own by import path.

    Several inputs are put side by side; categories become vectors of `embedding_units` numbers first. With `recompute`
    the trunk's layers keep only their inputs and compute the rest again in the backward pass.
    """

    name: str = setting(schema.string, DEFAULT_MODEL)
    trunk: list[dict[str, Any]] = setting(_LAYERS, [])
    heads: dict[str, list[dict[str, Any]]] | None = setting(schema.optional(schema.mapping(_LAYERS, "head")), None)
    options: dict[str, Any] = setting(schema.keyword_arguments, {})
    recompute: bool = setting(schema.boolean, False)
    embedding_units: int = setting(schema.integer(1), 8)


@dataclasses.dataclass(frozen=True)
class _Combination:
    name: str = setting(schema.choice("combination", tuple(METHODS)), "weighted")
    apply: str | None = setting(schema.optional(schema.choice("way to apply", ("joint", "per_loss"))), None)
    use_weights: bool = setting(schema.boolean, False)
    log_losses: bool = setting(schema.boolean, False)
    smoothing: float = setting(schema.fraction, 0.0)
    update_every: int = setting(schema.integer(1), 1)


CombineConfig = dataclasses.make_dataclass(
    "CombineConfig",
    [
        (name, method.options, setting(schema.record(method.options), {}))
        for name, method in METHODS.items()
        if method.options
    ],
    bases=(_Combination,),
    frozen=True,
)
CombineConfig.__doc__ = """The combination, how it is applied, and every method's options under the method's name.

With `log_losses` the method sees the losses' logarithms. With `smoothing` s a step's weights are s times those of the
step before and 1 - s times what the method finds (CR-MOGM, https://papers.nips.cc/paper_files/paper/2022/hash/f91bd64a3620aad8e70a27ad9cb3ca57-Abstract-Conference.html).
The weights that a method finds hold for `update_every` steps.
"""


@dataclasses.dataclass(frozen=True)
class MonitorConfig:
    """A validation metric to watch: `loss/<loss>` or `<loss>/<metric>`, and whether less or more of it is better.

    With `mode` "auto" a loss is to be small, and a metric is as Keras has it.
    """

    metric: str = setting(schema.string)
    mode: str = setting(schema.choice("mode", ("auto", "min", "max")), "auto")


@dataclasses.dataclass(frozen=True)
class EarlyStoppingConfig(MonitorConfig):
    """End the run when `patience` evaluations in a row have not brought an improvement of more than `min_delta`."""

    patience: int = setting(schema.integer(1))
    min_delta: float = setting(schema.number(), 0.0)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment. Durations (`steps` and what ends in `_every`) are in steps, epochs or examples.

    Checkpoints are written every `checkpoint_every` (None: at every evaluation); the last `keep_checkpoints` stay, and
    the one that is `best`. `ema` is the momentum of a moving average of the weights, on which the run evaluates.

    How a step computes: `reduction` "per_loss" takes one backward pass per loss and reduces every loss's gradients,
    "fused" one pass of the weighted sum, with a step per loss every `probe_every` (None: `report_every`) to measure
    gradient norms and cosines. `gradients` "features" lets a method see the gradients at the trunk's output instead of
    those of the shared variables. A step takes its batch in `micro_batches` parts, one after another. Gradients travel
    as `reduce_dtype` (None: as they are) in packs of about `bytes_per_pack` (0: all in one). `jit_compile` compiles the
    forward and backward passes with XLA.
    """

    losses: dict[str, LossConfig] = setting(schema.mapping(schema.record(LossConfig), "loss", reserved=_RESERVED))
    dataset: DatasetConfig = setting(schema.record(DatasetConfig))
    model: ModelConfig = setting(schema.record(ModelConfig))
    shared_optimizer: dict[str, Any] = setting(_OPTIMIZER, _ADAM)
    combine: CombineConfig = setting(schema.record(CombineConfig), {})
    clip_norm: float | None = setting(schema.optional(schema.number(positive=True)), None)
    steps: int | str = setting(durations.check, "10 epochs")
    batch_size: int = setting(schema.integer(1), 64)
    seed: int = setting(schema.integer(0), 0)
    precision: str = setting(schema.choice("precision", PRECISIONS), "float32")
    reduction: str = setting(schema.choice("reduction", REDUCTIONS), "per_loss")
    probe_every: int | str | None = setting(schema.optional(durations.check), None)
    gradients: str = setting(schema.choice("kind of gradients", ("parameters", "features")), "parameters")
    micro_batches: int = setting(schema.integer(1), 1)
    reduce_dtype: str | None = setting(schema.optional(schema.choice("dtype to reduce in", ("bfloat16",))), None)
    bytes_per_pack: int = setting(schema.integer(0), 0)
    jit_compile: bool = setting(schema.boolean, False)
    steps_per_loop: int = setting(schema.integer(1), 20)
    report_every: int | str = setting(durations.check, 100)
    eval_every: int | str = setting(durations.check, "1 epoch")
    checkpoint_every: int | str | None = setting(schema.optional(durations.check), None)
    keep_checkpoints: int = setting(schema.integer(1), 3)
    best: MonitorConfig | None = setting(schema.optional(schema.record(MonitorConfig)), None)
    early_stopping: EarlyStoppingConfig | None = setting(schema.optional(schema.record(EarlyStoppingConfig)), None)
    ema: float | None = setting(schema.optional(schema.fraction), None)


# What may change when a run is resumed: it decides when things happen, what is kept and how the same numbers are
# computed (but for roundings), not what is computed.
_FREE = (
    "steps_per_loop",
    "report_every",
    "eval_every",
    "checkpoint_every",
    "keep_checkpoints",
    "best",
    "early_stopping",
    "reduction",
    "probe_every",
    "bytes_per_pack",
    "jit_compile",
    "model.recompute",
)
# May change, too: that the data are the same is checked by their fingerprint.
_WHERE_DATA_ARE = re.compile(r"dataset\.(sources\.[^.]+\.)?(path|data_dir|memory_limit)")


def differences(saved: Config, now: Config) -> list[str]:
    """What keeps a run from being resumed with another configuration.

    Args:
      saved: the run's own configuration.
      now: the configuration to resume it with.

    Returns:
      A description of every field that differs and must not. Cadences may, and `steps` may unless a schedule depends
      on their number.
    """
    free = _FREE if _schedules_over_the_run(now) else (*_FREE, "steps")
    return [
        f"{found} (a schedule depends on it)" if field == "steps" else found
        for field, found in _different(saved, now).items()
        if not _is_within(field, free)
    ]


def differences_from_chief(chief: Config, own: Config) -> list[str]:
    """A description of every field in which a worker's own configuration differs, but for where data are."""
    return list(_different(chief, own).values())


def _different(there: Config, here: Config) -> dict[str, str]:
    """Field → what it is there and here, for every field that is not the same, but for where data are."""
    before, after = _leaves(dataclasses.asdict(there)), _leaves(dataclasses.asdict(here))
    found = {}
    if list(there.losses) != list(here.losses) and set(there.losses) == set(here.losses):
        found["losses"] = f"losses are in the order {', '.join(there.losses)} there and {', '.join(here.losses)} here"
    for field in dict.fromkeys((*before, *after)):
        if before.get(field) != after.get(field) and not _WHERE_DATA_ARE.fullmatch(field):
            found[field] = f"{field} is {before.get(field)!r} there and {after.get(field)!r} here"
    return found


def _is_within(field: str, names: Sequence[str]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def _leaves(tree: Mapping[str, Any], field: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        at = schema.join(field, key)
        leaves |= _leaves(value, at) if isinstance(value, dict) and value else {at: value}
    return leaves


def _schedules_over_the_run(config: Config) -> bool:
    """Whether a schedule's length is that of the run: a cosine without `decay_steps`."""
    specs = [loss.optimizer.get("learning_rate") for loss in config.losses.values()]
    specs += [loss.weight for loss in config.losses.values()] + [config.shared_optimizer.get("learning_rate")]
    names = [schema.squashed(spec["name"]) for spec in specs if isinstance(spec, dict) and "decay_steps" not in spec]
    return "cosinedecay" in names


def _with_own_names(config: Config) -> Config:
    """Every loss with a head and a target: those of its own name where it does not say."""
    losses = {
        name: dataclasses.replace(loss, head=loss.head or name, target=loss.target or name)
        for name, loss in config.losses.items()
    }
    return dataclasses.replace(config, losses=losses)


def _check_names(config: Config) -> None:
    data_configuration.check(config.dataset)
    model = config.model
    if imports.is_path(model.name):
        return
    if model.name != DEFAULT_MODEL:
        raise unknown("model.name", model.name, "model", [DEFAULT_MODEL, "package.module:function"])
    if model.heads is None:
        raise ConfigError("model.heads", ConfigError.ABSENT, "is missing and must be given")
    if model.options:
        raise ConfigError(
            "model.options", model.options, "are for a model of your own (model.name='package.module:function')"
        )
    check_heads(config.losses, model.heads)


def check_heads(losses: Mapping[str, LossConfig], heads: Sequence[str] | Mapping[str, Any]) -> None:
    """Every loss's head exists and every head is used by a loss; raises ConfigError."""
    for name, loss in losses.items():
        if loss.head not in heads:
            raise unknown(f"losses.{name}.head", loss.head, "head", heads)
    used = {loss.head for loss in losses.values()}
    for head in heads:
        if head not in used:
            raise ConfigError(
                f"model.heads.{head}", ConfigError.ABSENT, "no loss uses this head; remove it or give it a loss"
            )


def _check_optimizers(config: Config) -> None:
    optimizers = {f"losses.{name}.optimizer": loss.optimizer for name, loss in config.losses.items()}
    for field, optimizer in {**optimizers, "shared_optimizer": config.shared_optimizer}.items():
        rate = optimizer.get("learning_rate")
        if isinstance(rate, dict):
            _check_schedule(rate, f"{field}.learning_rate")
        elif rate is not None:
            optimizer["learning_rate"] = schema.number()(rate, f"{field}.learning_rate")


def _check_losses(config: Config) -> None:
    for name, loss in config.losses.items():
        if loss.offset >= loss.every:
            raise ConfigError(
                f"losses.{name}.offset", loss.offset, f"must be below losses.{name}.every, which is {loss.every}"
            )
        if isinstance(loss.weight, dict):
            _check_schedule(loss.weight, f"losses.{name}.weight")


def _check_schedule(schedule: dict[str, Any], field: str) -> None:
    schema.call("name")(schedule, field)
    for key in _RATES:
        if schedule.get(key) is not None:
            schema.number()(schedule[key], f"{field}.{key}")


def _check_combination(config: Config) -> Config:
    combine = config.combine
    method = METHODS[combine.name]
    if method.per_loss and combine.apply == "joint":
        raise ConfigError(
            "combine.apply", "joint", f"{combine.name!r} is always applied per loss; 'weighted' is its joint form"
        )
    if method.weighted and combine.use_weights:
        raise ConfigError(
            "combine.use_weights", True, f"{combine.name!r} uses the losses' weights already; leave it False"
        )
    registry.check_count(combine.name, method_options(combine), len(config.losses))
    if combine.log_losses and (method.looks_at in ONE_PASS or method.of_log_losses):
        raise ConfigError(
            "combine.log_losses",
            True,
            f"is for methods that look at gradients, as they are; {combine.name!r} "
            + ("looks at log losses already" if method.of_log_losses else f"looks at {method.looks_at.value}"),
        )
    if combine.smoothing and (not method.finds_weights or _per_variable(config)):
        raise ConfigError(
            "combine.smoothing",
            combine.smoothing,
            f"is for methods that find weights in every step; {combine.name!r} has none to smooth",
        )
    if combine.apply == "per_loss" and method.looks_at is LooksAt.ELEMENTS:
        raise ConfigError(
            "combine.apply", "per_loss", f"needs a mixed gradient for every loss; {combine.name!r} makes one of all"
        )
    if method.looks_at is LooksAt.CROSS_GRAMIAN and config.batch_size < 2:
        raise ConfigError(
            "batch_size", config.batch_size, f"must be at least 2: {combine.name!r} needs two halves of a batch"
        )
    weights = {name: loss.weight for name, loss in config.losses.items()}
    if not any(weights.values()):
        raise ConfigError("losses.<name>.weight", weights, "at least one loss must have a weight above 0")
    apply = combine.apply or ("per_loss" if method.per_loss else "joint")
    return dataclasses.replace(config, combine=dataclasses.replace(combine, apply=apply))


def _check_step(config: Config) -> None:
    """What the ways to compute a step can be combined with."""
    if config.batch_size % config.micro_batches:
        raise ConfigError(
            "micro_batches", config.micro_batches, f"must divide batch_size, which is {config.batch_size}"
        )
    part = "batch_size" if config.micro_batches == 1 else "batch_size / micro_batches"
    data_configuration.check_batch_size(config.dataset, config.batch_size // config.micro_batches, part)
    if config.probe_every is not None and config.reduction != "fused":
        raise ConfigError(
            "probe_every", config.probe_every, "is for reduction='fused'; the others measure at every report"
        )
    method, name = METHODS[config.combine.name], config.combine.name
    if method.observe is not None and config.micro_batches > 1:
        raise ConfigError(
            "micro_batches",
            config.micro_batches,
            f"must be 1: {name!r} needs the whole batch once more after the update",
        )
    if config.reduction == "fused":
        if method.looks_at not in ONE_PASS:
            raise ConfigError(
                "reduction",
                "fused",
                f"has one backward pass for all losses, but {name!r} looks at {method.looks_at.value}; use 'per_loss', "
                "or combine.update_every or gradients='features' for fewer passes",
            )
        _check_one_pass(config, "reduction", "fused")
    if config.combine.update_every > 1:
        allowed = None
        if config.reduction == "fused":
            allowed = "saves backward passes, of which reduction='fused' has one already; leave it 1"
        elif not method.finds_weights or method.keeps is not None or _per_variable(config):
            allowed = f"keeps the weights that a method finds, but {_why_not(config)}"
        if allowed is not None:
            raise ConfigError("combine.update_every", config.combine.update_every, allowed)
        _check_one_pass(config, "combine.update_every", config.combine.update_every)
    if config.gradients == "features":
        if method.looks_at is not LooksAt.GRAMIAN or _per_variable(config):
            raise ConfigError(
                "gradients",
                "features",
                f"is for methods that weigh the losses' whole gradients, but {_why_not(config)}",
            )
        if config.micro_batches > 1:
            raise ConfigError(
                "gradients", "features", "needs the features of the whole batch at once; leave micro_batches at 1"
            )
        if config.jit_compile:
            raise ConfigError(
                "gradients", "features", "sums across replicas within the backward pass; leave jit_compile False"
            )
        _check_one_pass(config, "gradients", "features")


def _check_one_pass(config: Config, field: str, value: Any) -> None:
    """One backward pass serves all losses: what is applied must be one sum, of every loss on all it reaches."""
    if config.combine.apply == "per_loss":
        raise ConfigError(
            field,
            value,
            f"has one gradient for all losses; {config.combine.name!r} applied per loss needs each loss's own",
        )
    for name, loss in config.losses.items():
        if loss.variables is not None:
            raise ConfigError(
                field, value, f"has one gradient for all losses, but losses.{name}.variables keeps one of them apart"
            )


def method_options(combine: CombineConfig) -> dict[str, Any]:
    """The options of the method that is chosen; empty where it has none."""
    options = getattr(combine, combine.name, None)
    return {} if options is None else dataclasses.asdict(options)


def _per_variable(config: Config) -> bool:
    return method_options(config.combine).get("per_variable", False)


def _why_not(config: Config) -> str:
    name = config.combine.name
    if _per_variable(config):
        return f"combine.{name}.per_variable has weights of its own for every variable"
    method = METHODS[name]
    hint = "; reduction='fused' makes it one pass" if method.looks_at in ONE_PASS else ""
    return f"{name!r} looks at {method.looks_at.value}{hint}"


# ---------------------------------------------------------------------------------------------------------------------
# Reading files and overrides.
# ---------------------------------------------------------------------------------------------------------------------


def _run_file(path: str) -> ml_collections.ConfigDict:
    file = pathlib.Path(path)
    try:
        exists = file.is_file()
    except OSError:  # a name that no file can have
        exists = False
    if not exists:
        raise ConfigError("--config", path, "must be an existing Python file, for example configs/digits.py")
    module = types.ModuleType("experiment_configuration")
    module.__file__ = path
    try:
        # Not imported: that would leave a __pycache__ beside the file, and read a stale one after a quick edit.
        exec(compile(file.read_bytes(), path, "exec"), vars(module))
    except imports.USER_ERRORS as error:
        raise ConfigError("--config", path, f"does not run: {_describe(error, path)}") from error
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError("--config", path, "must define get_config() returning an ml_collections.ConfigDict")
    try:
        config = module.get_config()
    except imports.USER_ERRORS as error:
        raise ConfigError("--config", path, f"get_config() raised {_describe(error, path)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            "--config", path, f"get_config() must return an ml_collections.ConfigDict, not {type(config).__name__}"
        )
    return config


def _read(config: ml_collections.ConfigDict, path: str) -> dict[str, Any]:
    try:
        return _plain(config)
    except (ml_collections.config_dict.RequiredValueError, RecursionError) as error:
        raise ConfigError(
            "--config", path, f"get_config() gives an incomplete configuration: {first_line(error)}"
        ) from error


def _describe(error: BaseException, path: str) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {lines[-1]})" if lines else "")


def _plain(value: Any, field: str = "") -> Any:
    """`value` as plain dictionaries, lists, strings, numbers, booleans and None, which is what a run can save."""
    if isinstance(value, ml_collections.ConfigDict):
        # A ConfigDict iterates alphabetically; losses and heads keep the order in which they were written.
        value = {key: value[key] for key in getattr(value, "_fields", value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry, schema.join(field, str(key))) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{field}.{index}") for index, entry in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        field,
        value,
        "must be plain: a dictionary, list, string, number, boolean or None (name a function by import path)",
    )


def _override(tree: dict[str, Any], key: str, text: str) -> None:
    """Sets the value at the dotted `key` of a nested dictionary; missing levels are made, the check comes later."""
    node, holder, at = tree, {}, ""
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if node is None:
            node = holder[at] = {}
        elif isinstance(node, str):  # "adam" stands for {"name": "adam"}
            node = holder[at] = {"name": node}
        if isinstance(node, dict):
            holder, at, node = node, part, node.get(part)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            holder, at, node = node, int(part), node[int(part)]
        elif isinstance(node, list):
            raise ConfigError(f"--config.{key}", text, f"{part!r} is not a position in a list of {len(node)}")
        else:
            raise ConfigError(f"--config.{key}", text, f"{'.'.join(parts[:depth])} is a value, it has no {part!r}")
    holder[at] = _parse(text)


def _parse(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
