"""Entries of the registry: a method's functions, what it looks at, how it is treated, its options and its card."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.common import schema


class LooksAt(enum.Enum):
    """The quantities that a method looks at, which the step must compute for it."""

    NOTHING = "nothing but its own constants"
    LOSSES = "the values of the losses"
    GRAMIAN = "inner products of the losses' gradients over all shared variables"
    BLOCK_GRAMIANS = "inner products of the losses' gradients, each variable on its own"
    CROSS_GRAMIAN = "inner products of the gradients over one half of the batch with those over the other"
    MOVING_GRAMIAN = "inner products of moving averages of the losses' gradients"
    ELEMENTS = "the losses' gradients element by element"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """Texts for choosing a method, none of them empty; `cards.py` makes the page of them.

    Attributes:
      formula: what is applied, of gradients gₖ with the Gramian G and losses Lₖ, k = 1 ... K; without a full stop.
      work: what it computes besides the backward passes, which follow from what it looks at; without a full stop.
      use: when it is worth a try, in sentences.
      avoid: when it is not, in sentences.
      differences: from the authors' code, in sentences.
    """

    formula: str
    work: str
    use: str
    avoid: str
    differences: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One combination method.

    Attributes:
      function: called as `function(problem, **options)`; it returns an `Answer`, or only its coefficients: (K,) where
        the method is `diagonal`, (K, K) where it is not. With `initial` it is called as `function(problem, state,
        **options)` and returns an `Answer`. Of `ELEMENTS`, see `methods/elements.py`.
      looks_at: what the problem must hold.
      summary: one line for the table of methods.
      card: texts for choosing a method.
      paper: who published it and where: (name and year, address); empty where nobody in particular has.
      options: a dataclass of settings, the keys of `combine.<method>`; None where there are none.
      variants: options that, where they are true, make another entry of it.
      initial: called as `initial(count, **options)`: what the method remembers at the start.
      observe: called as `observe(problem, after, state, **options)` with the (K,) losses of the same batch after the
        update: what it remembers then.
      lower_bound: options → what losses must be above because the method takes their logarithms or divides by them: a
        number or one for each; None: nothing.
      keeps: options → the share of the gradients' moving averages that a step keeps (`MOVING_GRAMIAN`).
      with_losses: options → whether the method looks at the losses' values too.
      of_log_losses: the gradients that the method looks at and mixes are those of the losses' logarithms.
      per_variable: the mixing is computed for every variable on its own, over the losses that reach it.
      diagonal: a loss's mixed gradient is made of its own alone, so it exists only where that loss reaches.
      weighted: the method is the configuration's loss weights.
      weighs_task_specific: task-specific gradients are multiplied by their loss's coefficient too.
      mixes_task_specific: task-specific gradients go through the mixing too (as blocks of one loss).
      per_loss: always applied per loss.
      random: every step draws new coefficients, or has its own for another reason than what it looks at.
      draws: a function of the user's own that gets the problem's seed, to draw random numbers from.
      eigen: it decomposes the Gramian into eigenvectors.
      may_fall_back: there are problems without a solution, on which it falls back to another one.
      least_losses: options → how many losses it takes at least.
      own: a function of the user's own; a step in which it gives a number that is not finite is not taken.
    """

    function: Callable[..., Any]
    looks_at: LooksAt
    summary: str
    card: Card
    paper: tuple[str, str] | tuple[()] = ()
    options: type | None = None
    variants: Mapping[str, Method] = dataclasses.field(default_factory=dict, hash=False)
    initial: Callable[..., Any] | None = None
    observe: Callable[..., Any] | None = None
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
    draws: bool = False
    eigen: bool = False
    may_fall_back: bool = False
    least_losses: Callable[[Mapping[str, Any]], int] = lambda options: 1
    own: bool = False

    @property
    def tells_variables_apart(self) -> bool:
        """True where the method takes each variable on its own, and not only for the losses that reach it."""
        return self.looks_at in (LooksAt.BLOCK_GRAMIANS, LooksAt.ELEMENTS)

    @property
    def yields_coefficients(self) -> bool:
        """True where one set of coefficients holds for all shared variables."""
        return not self.per_variable and self.looks_at is not LooksAt.ELEMENTS

    @property
    def sees_gramian(self) -> bool:
        """True where it looks at inner products of gradients, over all shared variables or each on its own."""
        gramians = (LooksAt.GRAMIAN, LooksAt.BLOCK_GRAMIANS, LooksAt.CROSS_GRAMIAN, LooksAt.MOVING_GRAMIAN)
        return self.looks_at in gramians

    @property
    def finds_coefficients(self) -> bool:
        """True where it yields coefficients that differ from step to step."""
        return self.yields_coefficients and (self.looks_at is not LooksAt.NOTHING or self.random)

    def sees(self, options: Mapping[str, Any]) -> str:
        """All that it looks at with these options, in words."""
        return self.looks_at.value + (", and the values of the losses" if self.with_losses(options) else "")


@dataclasses.dataclass(frozen=True)
class Between:
    """Numbers among which tuning looks for the best value of an option.

    Attributes:
      low: the least.
      high: the largest.
      log: whether they are drawn evenly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + " (log)" * self.log


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Values among which tuning looks for the best one of an option."""

    values: tuple[str | bool, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Search = Between | OneOf

POSITIVE = schema.number(positive=True)
PROPORTIONS = schema.optional(schema.proportions)


def options(method: str, **settings: Any) -> type:
    """A dataclass of a method's settings, each the result of `schema.setting`, with a `Search` where it is tuned."""
    kind = dataclasses.make_dataclass(
        f"{method}_options", [(name, Any, given) for name, given in settings.items()], frozen=True
    )
    kind.__doc__ = f"Options of `{method}`."
    return kind
