"""An experiment in a few lines: data, model, shared and task-specific parameters, method, steps, optimizers.

A run prints them at its start, `trainer.describe` before what it says at length.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.common.durations import ENDLESS
from trainer.config.plan import StepPlan, View

_FEEDS = {"memory": "in memory", "streaming": "streaming", "in_order": "in the order of the dataset"}
_LISTED = 6  # of many targets, losses or optimizers


@dataclasses.dataclass(frozen=True)
class Group:
    """The variables that the same losses reach.

    Attributes:
      losses: names of these losses; none: variables that no loss reaches.
      variables: how many there are.
      parameters: numbers in all of them.
    """

    losses: tuple[str, ...]
    variables: int
    parameters: int

    @property
    def is_shared(self) -> bool:
        """True where two losses or more reach them."""
        return len(self.losses) > 1


@dataclasses.dataclass(frozen=True)
class OptimizerUse:
    """One optimizer and how much it updates.

    Attributes:
      name: "shared", or the name of the loss whose own optimizer this is.
      kind: name of its class.
      learning_rate: a number, or its schedule with its arguments.
      arguments: its other arguments that are given, in words; empty where there are none.
      variables: how many it updates.
      parameters: numbers in all of them.
    """

    name: str
    kind: str
    learning_rate: str
    arguments: str
    variables: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class MethodUse:
    """The combination method and how it is used.

    Attributes:
      name: its name in the registry.
      options: its options.
      summary: what it makes of the gradients.
      sees: what it looks at.
      plan: how the steps are computed.
      every: where two ways to compute them alternate, steps from one that is due to the next; None: it is due at
        every report.
      micro_batches: parts of a batch that are computed one after another.
    """

    name: str
    options: Mapping[str, Any]
    summary: str
    sees: str
    plan: StepPlan
    every: int | None
    micro_batches: int


@dataclasses.dataclass(frozen=True)
class ExperimentSummary:
    """An experiment as plain numbers and names.

    Attributes:
      splits: split → number of examples.
      feeds: how they are fed, "memory", "streaming" or "in_order", for each source of data.
      inputs: name → shape of one example; a single input has no name ("").
      targets: name → shape of one example.
      model: its name in the configuration.
      losses: names of all losses.
      groups: the trainable variables that losses reach, the most shared ones first.
      unreached: trainable variables that no loss reaches; they stay as they are.
      frozen: parameters of weights that are frozen, by `freeze` or by their layers.
      untrained: other parameters that no gradient changes, such as moving averages of batch statistics.
      method: the combination method and how it is used.
      optimizers: all optimizers that update something.
      class_weights: loss → the weights of its target's classes, for each of its labels; of losses that have some.
    """

    splits: Mapping[str, int]
    feeds: tuple[str, ...]
    inputs: Mapping[str, tuple[int, ...]]
    targets: Mapping[str, tuple[int, ...]]
    model: str
    losses: tuple[str, ...]
    groups: tuple[Group, ...]
    unreached: Group
    frozen: int
    untrained: int
    method: MethodUse
    optimizers: tuple[OptimizerUse, ...]
    class_weights: Mapping[str, tuple[tuple[float, ...], ...]] = dataclasses.field(default_factory=dict)

    @property
    def shared(self) -> int:
        """Parameters that two losses or more reach."""
        return sum(group.parameters for group in self.groups if group.is_shared)

    @property
    def task_specific(self) -> int:
        """Parameters that a single loss reaches."""
        return sum(group.parameters for group in self.groups if not group.is_shared)

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        return self.shared + self.task_specific + self.unreached.parameters + self.frozen + self.untrained


def lines(summary: ExperimentSummary) -> list[str]:
    """The summary as at most eight lines, each with its subject before a colon."""
    method = summary.method
    texts = {
        "data": _data(summary),
        "model": f"{summary.model}, {counted(summary.parameters, 'parameter')}",
        "parameters": parameters(summary),
        "reach": _listed(
            f"{group.parameters:,} {reached_by(group.losses, summary.losses)}" for group in summary.groups
        ),
        "method": f"{method_name(method)}: {method.summary}; looks at {method.sees}",
        "steps": f"{steps(method)}; applied {'per loss' if method.plan.applied_per_loss else 'jointly'}",
        "optimizers": optimizers(summary),
    }
    if summary.class_weights:
        texts["class weights"] = _listed(
            f"{loss} {_listed(map(_row, rows), ' | ')}" for loss, rows in summary.class_weights.items()
        )
    width = max(map(len, texts)) + 1
    return [f"{f'{subject}:':<{width}} {text}" for subject, text in texts.items()]


def at_length(summary: ExperimentSummary) -> list[str]:
    """Sentences about the method, how it is applied and how steps are computed."""
    method = summary.method
    applied = (
        "Applied per loss: each loss's own optimizer applies that loss's mixed gradients to every variable they reach."
        if method.plan.applied_per_loss
        else "Applied jointly: the shared optimizer updates the shared variables with the sum of the mixed gradients, "
        "each loss's own optimizer its task-specific ones."
    )
    return [
        f"Method: {method_name(method)}: {method.summary}. It looks at {method.sees}.",
        applied,
        f"Steps: {steps(method)}.",
    ]


def parameters(summary: ExperimentSummary) -> str:
    """The numbers of parameters that are shared, task-specific, not reached, frozen and not trained, in words."""
    words = f"shared {summary.shared:,}, task-specific {summary.task_specific:,}"
    if summary.unreached.parameters:
        words += f", reached by no loss {summary.unreached.parameters:,}"
    if summary.frozen:
        words += f", frozen {summary.frozen:,}"
    return words + (f", not trained {summary.untrained:,}" if summary.untrained else "")


def optimizers(summary: ExperimentSummary) -> str:
    """Every optimizer with all that it updates; losses whose optimizers are alike stand together."""
    alike: dict[str, list[OptimizerUse]] = {}
    for each in summary.optimizers:
        arguments = f", {each.arguments}" if each.arguments else ""
        alike.setdefault(f"{each.kind}, learning rate {each.learning_rate}{arguments}", []).append(each)
    texts = [f"{words}: {_updated(uses)}" for words, uses in alike.items()]
    if summary.unreached.variables:
        texts.append(f"none: {_of(summary.unreached.variables, summary.unreached.parameters)}")
    return "; ".join(texts)


def reached_by(losses: Sequence[str], every: Sequence[str]) -> str:
    """The losses that reach something, of all losses (`every`), in words."""
    if not losses:
        return "reached by no loss"
    if len(losses) == 1:
        return f"only {losses[0]}"
    return "shared by all" if len(losses) == len(every) else f"shared by {', '.join(losses)}"


def method_name(method: MethodUse) -> str:
    """The method with those of its options that have a value."""
    given = ", ".join(f"{name}={value}" for name, value in method.options.items() if value is not None)
    return method.name + (f" ({given})" if given else "")


def steps(method: MethodUse) -> str:
    """The way in which the steps are computed, in words."""
    plan = method.plan
    if plan.between is None:
        words = plan.way.value
    elif plan.probes:
        due = "at every report" if method.every is None else f"every {method.every:,} steps"
        words = f"{plan.between.value}; {due} {plan.way.value}, to measure"
    else:
        words = f"every {method.every:,} steps {plan.way.value}, to find coefficients; in between {plan.between.value}"
    if plan.why:
        words += f" (chosen by reduction='auto': {plan.why})"
    if plan.view is not View.WHOLE_BATCH:
        words += f"; the gradients that the method sees are {plan.view.value}"
    if plan.observes:
        words += "; the losses of the same batch once more after the update"
    return words + (f"; batches in {method.micro_batches} parts" if method.micro_batches > 1 else "")


def shape(sizes: Sequence[int]) -> str:
    """A shape of one example in words."""
    return " x ".join(map(str, sizes)) or "scalar"


def counted(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(count: int) -> str:
    """A number of examples in words."""
    return "endless" if count == ENDLESS else f"{count:,}"


def _data(summary: ExperimentSummary) -> str:
    counts = ", ".join(f"{examples(count)} {split}" for split, count in summary.splits.items())
    fed = " and ".join(_FEEDS[feed] for feed in dict.fromkeys(summary.feeds))
    inputs, targets = (
        _listed((f"{name} ({shape(sizes)})".strip() for name, sizes in tensors.items()), ", ")
        for tensors in (summary.inputs, summary.targets)
    )
    return f"{counts} examples, {fed}; inputs {inputs}; targets {targets}"


def _updated(uses: Sequence[OptimizerUse]) -> str:
    """The variables of some optimizers; where there are many, those after the first ones together."""
    shown, others = (uses, ()) if len(uses) <= _LISTED else (uses[:_LISTED], uses[_LISTED:])
    texts = [f"{each.name} {_of(each.variables, each.parameters)}" for each in shown]
    if others:
        numbers = _of(sum(each.variables for each in others), sum(each.parameters for each in others))
        texts.append(f"and {len(others)} more {numbers}")
    return ", ".join(texts)


def _of(variables: int, parameters_: int) -> str:
    return f"({counted(variables, 'variable')}, {parameters_:,})"


def _row(weights: Sequence[float]) -> str:
    return _listed((f"{weight:.4g}" for weight in weights), ", ")


def _listed(entries: Iterable[str], separator: str = "; ") -> str:
    """All entries where they are few, else the first of them and how many there are besides."""
    entries = list(entries)
    if len(entries) <= _LISTED:
        return separator.join(entries)
    return separator.join([*entries[:_LISTED], f"and {len(entries) - _LISTED} more"])
