"""What a configuration holds: every setting with its check and its default."""

import dataclasses
from typing import Any

from input_pipelines.configuration import DatasetConfig
from trainer.combine.registry import METHODS
from trainer.common import durations, schema
from trainer.common.schema import setting

PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
REDUCTIONS = ("per_loss", "fused", "features")
DEFAULT_MODEL = "trunk_and_heads"
_ADAM = {"name": "adam", "learning_rate": 1e-3}


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
    gradient norms and cosines, "features" one pass per loss down to the trunk's output and one through the trunk: a
    method sees the gradients there instead of those of the shared variables. A step takes its batch in `micro_batches`
    parts, one after another. Gradients travel as `reduce_dtype` (None: as they are) in packs of about `bytes_per_pack`
    (0: all in one). `jit_compile` compiles the forward and backward passes with XLA.
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


def method_options(combine: CombineConfig) -> dict[str, Any]:
    """The options of the method that is chosen; empty where it has none."""
    options = getattr(combine, combine.name, None)
    return {} if options is None else dataclasses.asdict(options)
