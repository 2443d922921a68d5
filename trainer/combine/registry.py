"""Every combination method by name: what it looks at, how it treats task-specific variables, and its options.

This table needs no TensorFlow, so that `--help` and configuration errors are instant. A new method is one function
`mix(problem, **options) -> (K, K) matrix` in a file of its family and one entry here.
"""

import dataclasses
import enum
import importlib
from collections.abc import Callable, Mapping

from trainer import schema


class LooksAt(enum.Enum):
    """What a method needs to see, and so what the step must compute for it."""

    NOTHING = "nothing but its own constants"
    GRAMIAN = "inner products of the losses' gradients over all shared variables"
    BLOCK_GRAMIANS = "inner products of the losses' gradients, each variable on its own"


@dataclasses.dataclass(frozen=True)
class Method:
    """One combination method.

    Attributes:
      function: `module:function` below `trainer.combine`; called as `mix(problem, **options)`.
      looks_at: what the problem must hold.
      summary: one line for the table of methods.
      per_variable: the mixing is computed for every variable on its own, over the losses that reach it.
      diagonal: the mixing matrix is diagonal, so a loss's mixed gradient exists only where that loss reaches.
      weighted: the method is the configuration's loss weights: they also scale task-specific gradients.
      mixes_task_specific: task-specific gradients go through the mixing too (as blocks of one loss).
      per_loss: always applied per loss.
      options: a dataclass of settings, the keys of `combine.<method>`; None where there are none.
    """

    function: str
    looks_at: LooksAt
    summary: str
    per_variable: bool = False
    diagonal: bool = False
    weighted: bool = False
    mixes_task_specific: bool = False
    per_loss: bool = False
    options: type | None = None

    def load(self) -> Callable:
        """The mixing function; imports TensorFlow."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(f"trainer.combine.{module}"), name)


@dataclasses.dataclass(frozen=True)
class NormalizedOptions:
    """Options of `normalized`: unit length over all shared variables, or for every variable on its own."""

    per_variable: bool = schema.setting(schema.boolean, False)


_WEIGHTED = Method(
    "linear:weighted", LooksAt.NOTHING, "Σ wₖ gₖ, the configuration's weights", diagonal=True, weighted=True
)

METHODS: Mapping[str, Method] = {
    "sum": Method("linear:total", LooksAt.NOTHING, "Σ gₖ", diagonal=True),
    "mean": Method(
        "linear:mean",
        LooksAt.NOTHING,
        "per variable, the average over the losses that reach it",
        per_variable=True,
        diagonal=True,
    ),
    "weighted": _WEIGHTED,
    "independent": dataclasses.replace(
        _WEIGHTED,
        summary="every loss's own optimizer applies its own wₖ gₖ to every variable it reaches",
        per_loss=True,
    ),
    "normalized": Method(
        "normalized:rows",
        LooksAt.GRAMIAN,
        "mean of unit-length gradients, over all shared variables or per variable",
        diagonal=True,
        options=NormalizedOptions,
    ),
    "pcgrad": Method("pcgrad:project", LooksAt.GRAMIAN, "conflicting gradients projected off one another, then summed"),
}


def resolve(name: str, options: Mapping[str, object]) -> tuple[Method, Mapping[str, object]]:
    """The method that `name` and its options select, and the options left for its mixing function."""
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
