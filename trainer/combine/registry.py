"""Every combination method by name: what it looks at, how it treats task-specific variables, and its options.

This table needs no TensorFlow, so that `--help` and configuration errors are instant. A new method is one function in a
file of its family and one entry here. The function is called as `function(problem, **options)` and returns an `Answer`,
or only its weights: (K,) where the method is `diagonal`, (K, K) where it is not. One that remembers something is
`function(problem, state, **options)` and returns an `Answer`; of `ELEMENTS`, see `elements.py`.
"""

import dataclasses
import enum
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting


class LooksAt(enum.Enum):
    """What a method needs to see, and so what the step must compute for it."""

    NOTHING = "nothing but its own constants"
    LOSSES = "the values of the losses"
    GRAMIAN = "inner products of the losses' gradients over all shared variables"
    BLOCK_GRAMIANS = "inner products of the losses' gradients, each variable on its own"
    CROSS_GRAMIAN = "inner products of the gradients over one half of the batch with those over the other"
    MOVING_GRAMIAN = "inner products of moving averages of the losses' gradients"
    ELEMENTS = "the losses' gradients element by element"


# A pass per loss is needed for all others.
ONE_PASS = (LooksAt.NOTHING, LooksAt.LOSSES)


@dataclasses.dataclass(frozen=True)
class Method:
    """One combination method.

    Attributes:
      function: `module:function` below `trainer.combine.methods`.
      looks_at: what the problem must hold.
      summary: one line for the table of methods.
      paper: who published it and where: (name and year, address); empty where nobody in particular has.
      options: a dataclass of settings, the keys of `combine.<method>`; None where there are none.
      initial: `module:function`, called as `initial(count, **options)`: what the method remembers at the start.
      observe: `module:function`, called as `observe(problem, after, state, **options)` with the (K,) losses of the same
        batch after the update: what it remembers then.
      lower_bound: options → what losses must be above because the method takes their logarithms or divides by them: a
        number or one for each; None: nothing.
      keeps: options → which part of the moving averages of the gradients a step keeps (`MOVING_GRAMIAN`).
      with_losses: options → whether the method looks at the losses' values besides.
      of_log_losses: the gradients that the method looks at and mixes are those of the losses' logarithms.
      per_variable: the mixing is computed for every variable on its own, over the losses that reach it.
      diagonal: a loss's mixed gradient is made of its own alone, so it exists only where that loss reaches.
      weighted: the method is the configuration's loss weights.
      weighs_task_specific: task-specific gradients are multiplied by their loss's weight too.
      mixes_task_specific: task-specific gradients go through the mixing too (as blocks of one loss).
      per_loss: always applied per loss.
      random: the weights are drawn anew in every step.
      may_fall_back: there are problems without a solution, on which it falls back to another one.
      least_losses: options → how many losses it takes at least.
    """

    function: str
    looks_at: LooksAt
    summary: str
    paper: tuple[str, str] | tuple[()] = ()
    options: type | None = None
    initial: str | None = None
    observe: str | None = None
    lower_bound: Callable[[Mapping[str, Any]], float | Sequence[float] | None] = lambda options: None
    keeps: Callable[[Mapping[str, Any]], float] | None = None
    with_losses: Callable[[Mapping[str, Any]], bool] = lambda options: False
    of_log_losses: bool = False
    per_variable: bool = False
    diagonal: bool = True
    weighted: bool = False
    weighs_task_specific: bool = False
    mixes_task_specific: bool = False
    per_loss: bool = False
    random: bool = False
    may_fall_back: bool = False
    least_losses: Callable[[Mapping[str, Any]], int] = lambda options: 1

    @property
    def yields_weights(self) -> bool:
        """Whether one set of weights holds for all shared variables."""
        return not self.per_variable and self.looks_at is not LooksAt.ELEMENTS

    @property
    def finds_weights(self) -> bool:
        """Whether it yields weights that differ from step to step."""
        return self.yields_weights and (self.looks_at is not LooksAt.NOTHING or self.random)


def load(path: str) -> Callable[..., Any]:
    """The function that `module:function` below `trainer.combine.methods` names; imports TensorFlow."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"trainer.combine.methods.{module}"), name)


def _options(method: str, **settings: Any) -> type:
    """A dataclass of a method's settings, each the result of `setting`."""
    kind = dataclasses.make_dataclass(
        f"{method}_options", [(name, Any, given) for name, given in settings.items()], frozen=True
    )
    kind.__doc__ = f"Options of `{method}`."
    return kind


_POSITIVE = schema.number(positive=True)
_PREFERENCE = setting(schema.optional(schema.proportions), None)

_WEIGHTED = Method(
    "linear:weighted",
    LooksAt.NOTHING,
    "Σ wₖ gₖ, the configuration's weights",
    weighted=True,
    weighs_task_specific=True,
)

METHODS: Mapping[str, Method] = {
    # ----- linear
    "sum": Method("linear:total", LooksAt.NOTHING, "Σ gₖ", weighs_task_specific=True),
    "weighted": _WEIGHTED,
    "mean": Method(
        "linear:mean", LooksAt.NOTHING, "per variable, the average over the losses that reach it", per_variable=True
    ),
    "random": Method(
        "linear:random",
        LooksAt.NOTHING,
        "Σ wₖ gₖ, w the softmax of normal numbers drawn anew in each step",
        ("RLW, Lin 2022", "https://arxiv.org/abs/2111.10603"),
        weighs_task_specific=True,
        random=True,
    ),
    "independent": dataclasses.replace(
        _WEIGHTED,
        summary="every loss's own optimizer applies its own wₖ gₖ to every variable it reaches",
        per_loss=True,
    ),
    # ----- weights from the losses' values
    "uncertainty": Method(
        "uncertainty:weigh",
        LooksAt.LOSSES,
        "Σ exp(-sₖ) gₖ, s learned",
        ("Kendall 2018", "https://arxiv.org/abs/1705.07115"),
        options=_options("uncertainty", learning_rate=setting(_POSITIVE, 1e-3)),
        initial="uncertainty:initial",
        weighs_task_specific=True,
    ),
    "dwa": Method(
        "dwa:weigh",
        LooksAt.LOSSES,
        "wₖ from how fast each loss fell over the last two epochs",
        ("Liu 2019", "https://arxiv.org/abs/1803.10704"),
        options=_options("dwa", temperature=setting(_POSITIVE, 2.0)),
        initial="dwa:initial",
        weighs_task_specific=True,
    ),
    "geometric": Method(
        "log_losses:geometric",
        LooksAt.LOSSES,
        "gradient of the losses' geometric mean",
        ("GLS, Chennupati 2019", "https://arxiv.org/abs/1904.08492"),
        lower_bound=lambda options: 0.0,
        weighs_task_specific=True,
    ),
    "log_sum": Method(
        "log_losses:log_sum",
        LooksAt.LOSSES,
        "gradient of Σ log Lₖ, which the losses' scales do not enter",
        ("SI, Navon 2022", "https://arxiv.org/abs/2202.01017"),
        lower_bound=lambda options: 0.0,
        weighs_task_specific=True,
    ),
    "smooth_tchebycheff": Method(
        "log_losses:smooth_tchebycheff",
        LooksAt.LOSSES,
        "gradient of a smooth maximum of log (Lₖ / its mean in the first steps)",
        ("STCH, Lin 2024", "https://arxiv.org/abs/2402.19078"),
        options=_options(
            "smooth_tchebycheff",
            mu=setting(_POSITIVE, 1.0),
            warmup_steps=setting(schema.integer(1), 100),
            preference=_PREFERENCE,
        ),
        initial="log_losses:smooth_tchebycheff_initial",
        lower_bound=lambda options: 0.0,
        weighs_task_specific=True,
    ),
    "famo": Method(
        "famo:weigh",
        LooksAt.LOSSES,
        "weights that learn to make all log losses fall equally fast",
        ("FAMO, Liu 2023", "https://arxiv.org/abs/2306.03792"),
        options=_options(
            "famo",
            learning_rate=setting(_POSITIVE, 0.025),
            decay=setting(schema.number(), 1e-3),
            lower_bounds=setting(schema.one_or_each(schema.real), 0.0),
        ),
        initial="famo:initial",
        observe="famo:observe",
        lower_bound=lambda options: options["lower_bounds"],
        weighs_task_specific=True,
    ),
    # ----- weights from the Gramian
    "gradnorm": Method(
        "gradnorm:weigh",
        LooksAt.GRAMIAN,
        "learned weights that pull wₖ‖gₖ‖ together, more for losses that fall slowly",
        ("GradNorm, Chen 2018", "https://arxiv.org/abs/1711.02257"),
        options=_options("gradnorm", alpha=setting(schema.number(), 1.5), learning_rate=setting(_POSITIVE, 0.025)),
        initial="gradnorm:initial",
        with_losses=lambda options: True,
    ),
    "normalized": Method(
        "normalized:rows",
        LooksAt.GRAMIAN,
        "mean of unit-length gradients, over all shared variables or per variable",
        options=_options("normalized", per_variable=setting(schema.boolean, False)),
    ),
    "pcgrad": Method(
        "pcgrad:project",
        LooksAt.GRAMIAN,
        "conflicting gradients projected off one another, then summed",
        ("PCGrad, Yu 2020", "https://arxiv.org/abs/2001.06782"),
        diagonal=False,
    ),
    "gradvac": Method(
        "gradvac:align",
        LooksAt.GRAMIAN,
        "as PCGrad, towards a moving average of each pair's cosine",
        ("GradVac, Wang 2021", "https://arxiv.org/abs/2010.05874"),
        options=_options("gradvac", beta=setting(schema.between(0, 1), 0.5)),
        initial="gradvac:initial",
        diagonal=False,
    ),
    "mgda": Method(
        "mgda:weigh",
        LooksAt.GRAMIAN,
        "the shortest vector among all weighted averages of the gradients",
        ("MGDA, Désidéri 2012; Sener 2018", "https://arxiv.org/abs/1810.04650"),
        options=_options(
            "mgda", normalize=setting(schema.choice("normalisation", ("none", "l2", "loss", "loss+")), "none")
        ),
        with_losses=lambda options: "loss" in options["normalize"],
    ),
    "cagrad": Method(
        "cagrad:weigh",
        LooksAt.GRAMIAN,
        "best for the loss it helps least, within c‖mean‖ of the mean gradient",
        ("CAGrad, Liu 2021", "https://arxiv.org/abs/2110.14048"),
        options=_options("cagrad", c=setting(schema.fraction, 0.4)),
    ),
    "imtl_g": Method(
        "equal_cosines:imtl_g",
        LooksAt.GRAMIAN,
        "weights of sum 1, equal projections on every gradient's direction",
        ("IMTL, Liu 2021", "https://openreview.net/forum?id=IMPnRXEWpvr"),
        may_fall_back=True,
    ),
    "config": Method(
        "equal_cosines:config",
        LooksAt.GRAMIAN,
        "equal cosines with every gradient, length Σ of the projections",
        ("ConFIG, Liu 2025", "https://arxiv.org/abs/2408.11104"),
        options=_options("config", preference=_PREFERENCE),
        may_fall_back=True,
    ),
    "nash_mtl": Method(
        "bargaining:nash_mtl",
        LooksAt.GRAMIAN,
        "Nash bargaining: α with G α = 1/α",
        ("Nash-MTL, Navon 2022", "https://arxiv.org/abs/2202.01017"),
        options=_options("nash_mtl", max_norm=setting(schema.number(), 1.0)),
        may_fall_back=True,
    ),
    "fair_grad": Method(
        "bargaining:fair_grad",
        LooksAt.GRAMIAN,
        "α-fair: w with G w = w^(-1/α)",
        ("FairGrad, Ban 2024", "https://arxiv.org/abs/2402.15638"),
        options=_options(
            "fair_grad",
            alpha=setting(_POSITIVE, 2.0),
            preference=setting(schema.optional(schema.sequence(_POSITIVE)), None),
        ),
        may_fall_back=True,
    ),
    "aligned_mtl": Method(
        "aligned_mtl:weigh",
        LooksAt.GRAMIAN,
        "gradients made orthogonal and equally long, then averaged",
        ("Aligned-MTL, Senushkin 2023", "https://arxiv.org/abs/2305.19000"),
        options=_options("aligned_mtl", preference=_PREFERENCE),
    ),
    "dual_proj": Method(
        "dual_cone:dual_proj",
        LooksAt.GRAMIAN,
        "the mean gradient projected to where it conflicts with none",
        ("GEM, Lopez-Paz 2017", "https://arxiv.org/abs/1706.08840"),
        options=_options("dual_proj", preference=_PREFERENCE),
    ),
    "upgrad": Method(
        "dual_cone:upgrad",
        LooksAt.GRAMIAN,
        "every gradient projected to where it conflicts with none, then averaged",
        ("UPGrad, Quinton 2024", "https://arxiv.org/abs/2406.16232"),
        options=_options("upgrad", preference=_PREFERENCE),
        diagonal=False,
    ),
    # ----- weights from two halves of the batch
    "sdmgrad": Method(
        "two_batches:sdmgrad",
        LooksAt.CROSS_GRAMIAN,
        "as MGDA drawn towards the mean, by stochastic steps",
        ("SDMGrad, Xiao 2023", "https://arxiv.org/abs/2305.18409"),
        options=_options(
            "sdmgrad",
            lambda_=setting(schema.number(), 0.3),
            learning_rate=setting(_POSITIVE, 10.0),
            momentum=setting(schema.fraction, 0.5),
            iterations=setting(schema.integer(1), 20),
        ),
        initial="two_batches:initial",
    ),
    "modo": Method(
        "two_batches:modo",
        LooksAt.CROSS_GRAMIAN,
        "as MGDA, one stochastic step of the weights in each step",
        ("MoDo, Chen 2024", "https://arxiv.org/abs/2305.20057"),
        options=_options("modo", gamma=setting(_POSITIVE, 0.1), rho=setting(schema.number(), 0.1)),
        initial="two_batches:initial",
    ),
    # ----- weights from moving averages of the gradients
    "moco": Method(
        "moving_averages:moco",
        LooksAt.MOVING_GRAMIAN,
        "as MGDA on moving averages of the gradients, one step of the weights in each step",
        ("MoCo, Fernando 2023", "https://arxiv.org/abs/2210.12624"),
        options=_options(
            "moco",
            beta=setting(schema.between(0, 1), 0.5),
            gamma=setting(_POSITIVE, 0.1),
            rho=setting(schema.number(), 0.0),
        ),
        initial="two_batches:initial",
        keeps=lambda options: 1.0 - options["beta"],
    ),
    "db_mtl": Method(
        "moving_averages:db_mtl",
        LooksAt.MOVING_GRAMIAN,
        "moving averages of log losses' gradients, all as long as the longest, then summed",
        ("DB-MTL, Lin 2023", "https://arxiv.org/abs/2308.12029"),
        options=_options("db_mtl", beta=setting(schema.fraction, 0.9)),
        lower_bound=lambda options: 0.0,
        keeps=lambda options: options["beta"],
        of_log_losses=True,
    ),
    # ----- element by element
    "graddrop": Method(
        "elements:graddrop",
        LooksAt.ELEMENTS,
        "per element, only the gradients of one sign, drawn by how pure it is, are summed",
        ("GradDrop, Chen 2020", "https://arxiv.org/abs/2010.06808"),
        options=_options("graddrop", leak=setting(schema.between(0, 1), 0.0)),
        random=True,
    ),
    "trimmed_mean": Method(
        "elements:trimmed_mean",
        LooksAt.ELEMENTS,
        "per element, the mean without the largest and the smallest",
        ("Yin 2018", "https://arxiv.org/abs/1803.01498"),
        options=_options("trimmed_mean", trim=setting(schema.integer(1), 1)),
        least_losses=lambda options: 2 * options["trim"] + 1,
    ),
}


def resolve(name: str, options: Mapping[str, object]) -> tuple[Method, Mapping[str, object]]:
    """The method that `name` and its options select, and the options left for its functions."""
    method = METHODS[name]
    options = dict(options)
    if name == "normalized" and options.pop("per_variable", False):
        method = dataclasses.replace(
            method,
            function="normalized:variables",
            looks_at=LooksAt.BLOCK_GRAMIANS,
            per_variable=True,
            mixes_task_specific=True,
        )
    return method, options


def check_count(name: str, options: Mapping[str, object], count: int) -> None:
    """Raises ConfigError where a method cannot combine `count` losses, or an option has not a number for each."""
    for option, value in options.items():
        if isinstance(value, list | tuple) and len(value) != count:
            raise ConfigError(
                f"combine.{name}.{option}",
                value,
                f"must hold one number for each of the {count} losses, in their order",
            )
    least = METHODS[name].least_losses(options)
    if count < least:
        key = next(iter(options))
        raise ConfigError(f"combine.{name}.{key}", options[key], f"takes at least {least} losses; there are {count}")
