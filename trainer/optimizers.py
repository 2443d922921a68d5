"""Keras optimizers for gradients that are reduced already, and which of them updates what."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from trainer import durations, keras_objects, schema
from trainer.combine.combination import Combination
from trainer.configuration import Config
from trainer.errors import ConfigError, unknown
from trainer.jacobian import Reach

SHARED = "shared"
_WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
# Arguments that are numbers though Keras' defaults do not show it.
_NUMBERS = ("initial_learning_rate", "decay_rate")
_NUMBERS_OR_NONE = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "warmup_target")
_REFUSED = {
    "gradient_accumulation_steps": "accumulates combined gradients, which is wrong for most combinations",
    "ema_overwrite_frequency": "cannot run inside a distributed step",
    "loss_scale_factor": "would divide gradients that are not scaled",
    "use_ema": "would keep averages that nothing reads",
}


@dataclasses.dataclass(frozen=True)
class Update:
    """One optimizer and what it updates.

    Attributes:
      name: "shared", or the name of the loss whose own optimizer this is.
      optimizer: the optimizer, built for `variables`.
      positions: positions of its variables in `Reach.variables`.
      variables: the variables themselves.
      losses: indices of the losses it acts for; it rests in a step in which all of them are inactive.
    """

    name: str
    optimizer: keras.optimizers.Optimizer
    positions: tuple[int, ...]
    variables: tuple[keras.Variable, ...]
    losses: tuple[int, ...]


def build_updates(config: Config, reach: Reach, combination: Combination, *, examples: int) -> tuple[Update, ...]:
    """Builds every optimizer; call it in the strategy's scope.

    Applied jointly, the shared optimizer updates the shared variables and each loss's own optimizer that loss's
    task-specific ones. Applied per loss, each loss's optimizer updates every variable on which the loss has a mixed
    gradient, in the order of the configuration. Optimizers without variables are left out.

    Args:
      config: the configuration.
      reach: which losses reach which variables.
      combination: the combination that is applied.
      examples: examples per epoch, for schedules in epochs.

    Raises:
      ConfigError: an optimizer, a schedule or an argument that cannot be used, or weight decay with several owners.
    """
    names = list(config.losses)
    total = durations.to_steps(config.steps, batch_size=config.batch_size, examples=examples)
    updates = []

    def add(
        name: str, field: str, spec: Mapping[str, Any], positions: tuple[int, ...], losses: tuple[int, ...]
    ) -> None:
        optimizer = build(spec, field, batch_size=config.batch_size, examples=examples, total_steps=total)
        if positions:
            variables = tuple(reach.variables[v] for v in positions)
            optimizer.build(list(variables))
            updates.append(Update(name, optimizer, positions, variables, losses))

    if config.combine.apply == "joint":
        add(SHARED, "shared_optimizer", config.shared_optimizer, reach.shared, _losses_of(reach, reach.shared))
        for k, name in enumerate(names):
            add(name, f"losses.{name}.optimizer", config.losses[name].optimizer, reach.task_specific(k), (k,))
        return tuple(updates)

    for k, name in enumerate(names):
        positions = tuple(v for v, by in enumerate(reach.losses) if k in combination.receivers(by))
        add(name, f"losses.{name}.optimizer", config.losses[name].optimizer, positions, (k,))
    for update in updates:
        decay = update.optimizer.weight_decay
        if decay and set(update.positions) & set(reach.shared):
            raise ConfigError(
                f"losses.{update.name}.optimizer.weight_decay",
                decay,
                "must be None or 0 when applied per loss: each optimizer would decay the shared variables",
            )
    return tuple(updates)


def build(
    spec: Mapping[str, Any], field: str, *, batch_size: int, examples: int, total_steps: int
) -> keras.optimizers.Optimizer:
    """A Keras optimizer that applies gradients as they are, without reducing them across replicas once more.

    Args:
      spec: `name` and arguments; `learning_rate` may be a schedule's `name` and arguments, its `..._steps` in steps,
        epochs or examples.
      field: the configuration's key, for errors.
      batch_size: examples per step.
      examples: examples per epoch.
      total_steps: steps of the whole run; what a cosine schedule decays over where `decay_steps` is not given.

    Raises:
      ConfigError: a name or an argument that does not exist or is refused.
    """
    name, arguments = keras_objects.split(spec)
    found = keras_objects.find(
        name, keras.optimizers, keras.optimizers.Optimizer, kind="optimizer", field=f"{field}.name"
    )
    if keras_objects.name_of(found) in _WRAPPERS:
        raise ConfigError(f"{field}.name", name, "wraps other optimizers; give each loss its own instead")
    for key, reason in _REFUSED.items():
        if arguments.get(key):
            raise ConfigError(f"{field}.{key}", arguments[key], f"must be left out: it {reason}")
    if isinstance(arguments.get("learning_rate"), Mapping):
        arguments["learning_rate"] = _schedule(
            arguments["learning_rate"],
            f"{field}.learning_rate",
            batch_size=batch_size,
            examples=examples,
            total_steps=total_steps,
        )
    _make_numbers(found, arguments, field)
    optimizer = keras_objects.build(found, arguments, field=field, base=keras.optimizers.Optimizer)
    _apply_without_reduction(optimizer)
    return optimizer


def _schedule(spec: Mapping[str, Any], field: str, *, batch_size: int, examples: int, total_steps: int) -> Any:
    schedules = keras.optimizers.schedules
    name, arguments = keras_objects.split(spec)
    found = keras_objects.find(name, schedules, schedules.LearningRateSchedule, kind="schedule", field=f"{field}.name")

    def steps(value: Any, key: str) -> int:
        if value == 0:
            return 0
        return durations.to_steps(durations.check(value, f"{field}.{key}"), batch_size=batch_size, examples=examples)

    for key in list(arguments):
        if key.endswith("_steps"):
            arguments[key] = steps(arguments[key], key)
        elif key == "boundaries" and isinstance(arguments[key], list):
            arguments[key] = [steps(boundary, f"{key}.{index}") for index, boundary in enumerate(arguments[key])]
    if found is schedules.CosineDecay and "decay_steps" not in arguments:
        arguments["decay_steps"] = max(1, total_steps - arguments.get("warmup_steps", 0))
    _make_numbers(found, arguments, field)
    return keras_objects.build(found, arguments, field=field, base=schedules.LearningRateSchedule)


def _make_numbers(found: Callable[..., Any], arguments: dict[str, Any], field: str) -> None:
    """Makes floats of the arguments of a Keras class that are numbers, in place; raises ConfigError for others.

    Keras checks few of them and fails late, in the first step.
    """
    if not inspect.isclass(found) or not found.__module__.startswith("keras"):
        return
    defaults = {name: parameter.default for name, parameter in inspect.signature(found).parameters.items()}
    for key, value in arguments.items():
        default = defaults.get(key)
        if key == "values" and isinstance(value, list):
            arguments[key] = [schema.number()(entry, f"{field}.{key}.{index}") for index, entry in enumerate(value)]
        elif key in _NUMBERS_OR_NONE:
            arguments[key] = schema.optional(schema.number())(value, f"{field}.{key}")
        elif key in _NUMBERS or (isinstance(default, float) and default >= 0 and not hasattr(value, "get_config")):
            arguments[key] = schema.number()(value, f"{field}.{key}")


def _apply_without_reduction(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes `optimizer.apply` leave gradients alone that every replica already holds in full.

    In a replica context Keras 3 sums gradients across replicas once more and has no public switch for it
    (https://github.com/keras-team/keras/issues/19308); this is the only place that reaches into it.
    """
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise unknown("keras", keras.__version__, "version (its optimizers reduce gradients in another way)", ("3.15",))
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def _losses_of(reach: Reach, positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({k for v in positions for k in reach.losses[v]}))
