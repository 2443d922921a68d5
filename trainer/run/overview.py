"""The summary of an experiment: its parts as plain numbers and names."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from input_pipelines.feed import splits
from trainer.combine import registry
from trainer.components import optimizers
from trainer.components.optimizers import SHARED, OptimizerGroup
from trainer.config.settings import method_options
from trainer.gradients.reach import Reach
from trainer.output.summary import ExperimentSummary, Group, MethodUse, OptimizerUse
from trainer.run import build_step
from trainer.run.experiment import Experiment

_AROUND = ("use_weights", "log_losses", "smoothing")  # what can be put around any method


def of(built: Experiment) -> ExperimentSummary:
    """The summary of a built experiment; computes nothing."""
    names = tuple(loss.name for loss in built.losses)
    trainable, others = built.model.trainable_weights, built.model.non_trainable_weights
    reached = {id(variable) for variable in built.reach.variables}
    shapes = {name: tuple(leaf.shape) for name, leaf in splits.per_example(built.train.spec)}
    return ExperimentSummary(
        splits={name: len(split) for name, split in built.data.splits.items()},
        feeds=tuple(built.data.saved.feeds.values()),
        inputs=splits.within("inputs", shapes),
        targets=splits.within("targets", shapes),
        model=built.config.model.name,
        losses=names,
        groups=groups(built.reach, names),
        unreached=_group((), [variable for variable in trainable if id(variable) not in reached]),
        # TensorFlow's own variables say how they were made.
        frozen=_parameters(each for each in others if each.value.trainable),
        untrained=_parameters(each for each in others if not each.value.trainable),
        method=_method(built),
        optimizers=tuple(
            _optimizer(
                group,
                built.config.shared_optimizer if group.name == SHARED else built.config.losses[group.name].optimizer,
            )
            for group in built.optimizer_groups
        ),
        class_weights={loss.name: loss.class_weights.table for loss in built.losses if loss.class_weights is not None},
    )


def groups(reach: Reach, names: Sequence[str]) -> tuple[Group, ...]:
    """The variables of a model by the losses that reach them, the most shared ones first.

    Args:
      reach: which losses reach which variable.
      names: the names of all losses.
    """
    found: dict[tuple[int, ...], list[keras.Variable]] = {}
    for variable, losses in zip(reach.variables, reach.losses, strict=True):
        found.setdefault(losses, []).append(variable)
    ordered = sorted(found.items(), key=lambda entry: (-len(entry[0]), entry[0]))
    return tuple(_group(tuple(names[k] for k in losses), variables) for losses, variables in ordered)


def _group(losses: tuple[str, ...], variables: Sequence[keras.Variable]) -> Group:
    return Group(losses, len(variables), _parameters(variables))


def _parameters(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _method(built: Experiment) -> MethodUse:
    config, plan = built.config, built.plan
    combine = config.combine
    method, options = registry.resolve(combine.name, method_options(combine))
    around = {name: getattr(combine, name) for name in _AROUND if getattr(combine, name)}
    return MethodUse(
        name=combine.name,
        options=method_options(combine) | around,
        summary=method.summary,
        sees=method.sees(options),
        plan=plan,
        every=build_step.every(config, plan, built.timeline),
        micro_batches=config.micro_batches,
    )


def _optimizer(group: OptimizerGroup, spec: Mapping[str, Any]) -> OptimizerUse:
    others = ", ".join(_argument(key, value) for key, value in spec.items() if key not in ("name", "learning_rate"))
    return OptimizerUse(
        name=group.name,
        kind=type(group.optimizer).__name__,
        learning_rate=_learning_rate(group.optimizer, spec.get("learning_rate")) + _factors(group.factors),
        arguments=others,
        variables=len(group.variables),
        parameters=_parameters(group.variables),
    )


def _learning_rate(optimizer: keras.optimizers.Optimizer, given: float | Mapping[str, Any] | None) -> str:
    """The number or the schedule that the configuration gives; else the optimizer's own."""
    if isinstance(given, Mapping):
        arguments = ", ".join(_argument(key, value) for key, value in given.items() if key != "name")
        return f"{given['name']} ({arguments})" if arguments else given["name"]
    if (schedule := optimizers.schedule_of(optimizer)) is not None:
        return type(schedule).__name__
    return f"{float(keras.ops.convert_to_numpy(optimizer.learning_rate)) if given is None else given:g}"


def _factors(factors: Sequence[float]) -> str:
    """The factors of variables' learning rates other than 1, in words; empty where there are none."""
    counts = Counter(factor for factor in factors if factor != 1)
    return "".join(f", times {factor:g} for {count} variables" for factor, count in counts.items())


def _argument(key: str, value: Any) -> str:
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
