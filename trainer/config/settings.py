"""The content of a configuration: every setting with its check and its default."""

import dataclasses
from typing import Any

from input_pipelines.configuration import DatasetConfig
from trainer.combine import registry
from trainer.combine.registry import METHODS
from trainer.common import durations, schema
from trainer.common.schema import setting
from trainer.config import evaluations, followers, initial_values, rates
from trainer.config.evaluations import SegmentsConfig
from trainer.config.initial_values import InitialValuesConfig
from trainer.config.loss_settings import OPTIMIZER, LossConfig, MetricsConfig
from trainer.config.monitors import EarlyStoppingConfig, MonitorConfig
from trainer.config.rates import ReduceOnPlateauConfig

PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
OFF, PASSES, LOOP = COMPILED = ("off", "passes", "loop")
AUTO = "auto"  # of `compile`: the fastest of these
REDUCTIONS = ("auto", "per_loss", "fused", "features")
DEFAULT_MODEL = "trunk_and_heads"
DEFAULT_OPTIMIZER = {"name": "adam", "learning_rate": 1e-3}

# Kept for reports and checkpoints, where they stand beside losses' names; some are for reports to come.
_REPORTED = ("loss", "grad_norm", "cosine", "coefficient", "labels", "gate", "progress", "segment", "learning_rate")
_RESERVED = (*_REPORTED, "monitor", "step", "split", "shared")
_LAYERS = schema.sequence(schema.call("layer"))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A trunk and named heads, each a list of Keras layers; or a model of the user's own by import path."""

    name: str = setting(
        schema.string,
        DEFAULT_MODEL,
        "`trunk_and_heads`, or the import path of a function of your own, `package.module:function`, that returns a "
        "`keras.Model` with a dictionary of heads.",
    )
    trunk: list[dict[str, Any]] = setting(
        _LAYERS,
        [],
        "The layers that all heads share, from the input on; several inputs are put side by side first. Empty: heads "
        "stand on the input.",
    )
    heads: dict[str, list[dict[str, Any]]] | None = setting(
        schema.optional(schema.mapping(_LAYERS, "head")),
        None,
        "The layers of each head, on top of the trunk; must be given for `trunk_and_heads`. None: the own model's.",
    )
    options: dict[str, Any] = setting(schema.keyword_arguments, {}, "Arguments of the function of a model of your own.")
    recompute: bool = setting(
        schema.boolean,
        False,
        "Keep only some of the activations of the trunk's layers and compute the rest again in the backward pass, to "
        "save memory.",
    )
    embedding_units: int = setting(
        schema.integer(1), 8, "Length of the vector that each category of a categorical input becomes."
    )


@dataclasses.dataclass(frozen=True)
class _Combination:
    name: str = setting(
        registry.check_name,
        "weighted",
        "The method by which the losses' gradients become one update, or the import path of a function of your own; "
        "`--combine` replaces it.",
    )
    options: dict[str, Any] = setting(
        schema.keyword_arguments, {}, "Options of a method of your own: arguments of its function."
    )
    apply: str | None = setting(
        schema.optional(schema.choice("way to apply", ("joint", "per_loss"))),
        None,
        "Whether one optimizer applies the sum of the mixed gradients to a shared variable, or each loss's own "
        "optimizer applies that loss's. None: `per_loss` for `independent`, else `joint`.",
    )
    use_weights: bool = setting(
        schema.boolean,
        False,
        "Scale the losses by their `weight` before the method sees them; most methods ignore the weights otherwise.",
    )
    log_losses: bool = setting(schema.boolean, False, "Let the method see the logarithms of the losses.")
    # https://papers.nips.cc/paper_files/paper/2022/hash/f91bd64a3620aad8e70a27ad9cb3ca57-Abstract-Conference.html
    smoothing: float = setting(
        schema.fraction,
        0.0,
        "The part of the last step's coefficients that stays in a step's, as in CR-MOGM (Zhou 2022).",
    )
    update_every: int = setting(
        schema.integer(1), 1, "For how many steps the coefficients hold that the method finds; the others are fused."
    )


CombineConfig = dataclasses.make_dataclass(
    "CombineConfig",
    [
        (name, method.options, setting(schema.record(method.options), {}, f"Options of the method `{name}`."))
        for name, method in METHODS.items()
        if method.options
    ],
    bases=(_Combination,),
    frozen=True,
)
CombineConfig.__doc__ = """The combination, how it is applied, and every method's options under the method's name."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment: losses, data and model, how a step is computed, and what the run does besides."""

    losses: dict[str, LossConfig] = setting(
        schema.mapping(schema.record(LossConfig), "loss", reserved=_RESERVED), meaning="The losses by their names."
    )
    metrics: dict[str, MetricsConfig] = setting(
        schema.mapping(schema.record(MetricsConfig), "metric", reserved=_RESERVED, empty=True),
        {},
        "Metrics without a loss, by names of their own, which no loss has.",
    )
    dataset: DatasetConfig = setting(schema.record(DatasetConfig), meaning="Where the examples come from.")
    model: ModelConfig = setting(schema.record(ModelConfig), meaning="The model: trunk and heads, or one of your own.")
    init_from: InitialValuesConfig | None = setting(
        schema.optional(initial_values.check),
        None,
        "A run, a checkpoint or a file of Keras' whose values this model's variables begin with. None: they are "
        "initialized as their layers say.",
    )
    freeze: list[str] = setting(
        schema.sequence(schema.string),
        [],
        "Patterns of the names of variables that stay as they are, for example `backbone/*`. A layer of which all "
        "variables match is frozen as by Keras' `layer.trainable = False`: its batch statistics stand, too.",
    )
    optimizer: dict[str, Any] = setting(
        OPTIMIZER,
        DEFAULT_OPTIMIZER,
        "The Keras optimizer, with its arguments, of all variables for which `shared_optimizer` or "
        "`losses.<name>.optimizer` says no other; the shared variables and each loss's own get one with a state of its "
        "own. A dictionary without `name` changes arguments of the default.",
    )
    shared_optimizer: dict[str, Any] | None = setting(
        schema.optional(OPTIMIZER),
        None,
        "The Keras optimizer of the variables that several losses reach. None: as `optimizer`; a dictionary without "
        "`name` changes arguments of that.",
    )
    learning_rate_factors: dict[str, float] = setting(
        rates.factors,
        {},
        "Factors of the learning rate for variables whose names in the model match a pattern (`backbone/*`); the first "
        "pattern in this order that matches counts. Other variables: 1.",
    )
    reduce_on_plateau: ReduceOnPlateauConfig | None = setting(
        schema.optional(schema.record(ReduceOnPlateauConfig)),
        None,
        "The metric that reduces all learning rates, on top of their schedules, when it no longer improves. None: they "
        "are not reduced.",
    )
    combine: CombineConfig = setting(schema.record(CombineConfig), {}, "How the losses' gradients become one update.")
    clip_norm: float | None = setting(
        schema.optional(schema.number(positive=True)),
        None,
        "The largest norm of all gradients together that are applied, after they are combined (of each loss's own "
        "where they are applied per loss). None: no limit.",
    )
    steps: int | str = setting(durations.check, "10 epochs", "The length of the run.")
    batch_size: int = setting(schema.integer(1), 64, "Examples in a step, over all replicas together.")
    seed: int = setting(
        schema.integer(0), 0, "Decides initial values, the order of the examples and everything else that is random."
    )
    precision: str = setting(
        schema.choice("precision", PRECISIONS),
        "float32",
        "The type of variables and computation; with `mixed_` variables are float32.",
    )
    tensor_float_32: bool = setting(
        schema.boolean,
        True,
        "Let GPUs that can (Ampere and later) round the factors of float32 products to 10 bits, as TensorFlow does by "
        "default: much faster.",
    )
    deterministic: bool = setting(
        schema.boolean,
        False,
        "Only take operations that give the same bits each time: on GPUs some others do not, and are faster; on CPUs "
        "all do. `--deterministic` replaces it.",
    )
    reduction: str = setting(
        schema.choice("reduction", REDUCTIONS),
        "auto",
        "The backward passes of a step: `per_loss` takes one for every loss and reduces all their gradients; `fused` "
        "one of the weighted sum, for methods that look at no gradients; `features` one for every loss down to the "
        "trunk's output, whose gradients the method sees, and one through the trunk. `auto`: `fused` wherever that "
        "gives the same update, else `per_loss`; the run says which. `--reduction` replaces it.",
    )
    probe_every: int | str | None = setting(
        schema.optional(durations.check),
        None,
        "How often a run of fused steps takes one per loss, to measure gradient norms and cosines. None: at every "
        "report.",
    )
    micro_batches: int = setting(
        schema.integer(1), 1, "Parts of a batch that a step takes one after another, to save memory."
    )
    reduce_dtype: str | None = setting(
        schema.optional(schema.choice("dtype to reduce in", ("bfloat16",))),
        None,
        "The type as which gradients travel between replicas on CPUs; GPUs cannot sum it. None: the one they have.",
    )
    bytes_per_pack: int = setting(
        schema.integer(0), 0, "About how many bytes of gradients one collective reduces. 0: all of them."
    )
    compile: str = setting(
        schema.choice("way to compile", (*COMPILED, AUTO)),
        OFF,
        "The part of training that XLA compiles: none, `off`; the forward and backward `passes`; the whole `loop` over "
        "steps, for data in memory on one device; or `auto`, whatever of these takes least time in a trial before the "
        "first step.",
    )
    steps_per_loop: int = setting(
        schema.integer(1), 20, "At most how many steps run in TensorFlow before Python looks, for example for a signal."
    )
    report_every: int | str = setting(
        durations.check,
        100,
        "How often losses, norms and coefficients are reported; above 10 steps also after steps 1 and 10.",
    )
    eval_every: int | str = setting(durations.check, "1 epoch", "How often the run evaluates on the validation split.")
    evaluate: dict[str, int | str] = setting(
        schema.mapping(evaluations.when, "split", empty=True),
        {},
        "When splits beside `train` and `validation` are evaluated, by their names: `at_end` of the run, with the best "
        "checkpoint's variables where `best` keeps one; `at_every_evaluation` of `validation`; or every so often. "
        "Those not named: `at_end`.",
    )
    train_metrics: bool = setting(
        schema.boolean,
        False,
        "Also report the losses' metrics on the batches of training, over the steps since the last report.",
    )
    segments: SegmentsConfig | None = setting(
        schema.optional(schema.record(SegmentsConfig)),
        None,
        "Groups of examples for which evaluations also report each loss and metric by itself. None: there are none.",
    )
    checkpoint_every: int | str | None = setting(
        schema.optional(durations.check), None, "How often a checkpoint is written. None: at every evaluation."
    )
    keep_checkpoints: int = setting(schema.integer(1), 3, "How many of the last checkpoints stay.")
    best: MonitorConfig | None = setting(
        schema.optional(schema.record(MonitorConfig)),
        None,
        "The metric whose best checkpoint stays besides the last ones. None: only the last ones stay.",
    )
    early_stopping: EarlyStoppingConfig | None = setting(
        schema.optional(schema.record(EarlyStoppingConfig)),
        None,
        "The metric that ends the run when it no longer improves. None: the run has its full length.",
    )
    hooks: list[dict[str, Any]] = setting(
        schema.sequence(followers.hook),
        [],
        "Functions of your own, `package.module:function`, that are called as `(run, step, report)` at reports, at "
        "evaluations and at the end, and may stop the run; or dictionaries of that as `name`, with further arguments.",
    )
    loggers: list[dict[str, Any]] = setting(
        schema.sequence(followers.logger),
        [],
        "Further places for the reports: `wandb`, or classes of your own, `package.module:Class`; or dictionaries of "
        "that as `name`, with arguments.",
    )
    ema: float | None = setting(
        schema.optional(schema.fraction),
        None,
        "The momentum, for example 0.999, of a moving average of the variables on which the run evaluates. None: no "
        "average.",
    )


def method_options(combine: CombineConfig) -> dict[str, Any]:
    """The options of the method that is chosen; empty where it has none."""
    if combine.name not in METHODS:
        return combine.options
    options = getattr(combine, combine.name, None)
    return {} if options is None else dataclasses.asdict(options)
