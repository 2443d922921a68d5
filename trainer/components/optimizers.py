"""Keras optimizers for gradients that are reduced already, and which of them updates what."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.combine.combination import Combination
from trainer.common import import_paths
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError, reason_of, unknown
from trainer.components import fused_updates, keras_objects, scalars, schedules
from trainer.components.schedules import LearningRateSchedule, RunSchedule
from trainer.gradients.reach import Reach

SHARED = "shared"
GENERAL = "optimizer"  # the key of the one for everything that no other key names
_WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
_REFUSED = {
    "gradient_accumulation_steps": "accumulates combined gradients, which is wrong for most combinations",
    "ema_overwrite_frequency": "cannot run inside a distributed step",
    "loss_scale_factor": "would divide gradients that are not scaled",
    "use_ema": "would keep averages that nothing reads",
}


@dataclasses.dataclass(frozen=True)
class OptimizerGroup:
    """One optimizer and what it updates.

    Attributes:
      name: "shared", or the name of the loss whose own optimizer this is.
      optimizer: the optimizer, built for `variables`.
      positions: positions of its variables in `Reach.variables`.
      variables: the variables themselves.
      losses: indices of the losses it acts for; it is skipped in a step in which all of them are inactive. Empty: it is
        never skipped.
      factors: of its learning rate, for each of its variables; empty: all are 1.
    """

    name: str
    optimizer: keras.optimizers.Optimizer
    positions: tuple[int, ...]
    variables: tuple[keras.Variable, ...]
    losses: tuple[int, ...]
    factors: tuple[float, ...] = ()


def build_groups(
    general: Mapping[str, Any],
    shared: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
    reach: Reach,
    combination: Combination,
    timeline: Timeline,
    *,
    per_loss: bool,
) -> tuple[OptimizerGroup, ...]:
    """Builds every optimizer; call it in the strategy's scope.

    Applied jointly, the shared optimizer updates the shared variables and each loss's own optimizer that loss's
    task-specific ones. Applied per loss, each loss's optimizer updates every variable on which the loss has a mixed
    gradient, in the order of the configuration. Optimizers without variables are left out.

    Args:
      general: name and arguments of the optimizer for all that says no other; errors name its key where it is meant.
      shared: the shared optimizer's name and arguments.
      own: the name of every loss → the same of its own optimizer, in the order of the losses.
      reach: which losses reach which variables.
      combination: the combination that is applied.
      timeline: of the run, for schedules.
      per_loss: whether every loss's own optimizer applies its own mixed gradients.

    Raises:
      ConfigError: an optimizer, a schedule or an argument that cannot be used, or weight decay with several owners.
    """
    build(general, GENERAL, timeline)  # a mistake in it is named even if nothing uses it
    groups = []

    def add(
        name: str, field: str, spec: Mapping[str, Any], positions: tuple[int, ...], losses: tuple[int, ...]
    ) -> None:
        optimizer = build(spec, GENERAL if spec == general else field, timeline)
        if positions:
            variables = tuple(reach.variables[v] for v in positions)
            optimizer.build(list(variables))
            groups.append(OptimizerGroup(name, optimizer, positions, variables, losses))

    if not per_loss:
        add(SHARED, "shared_optimizer", shared, reach.shared, _losses_of(reach, reach.shared))
        for k, (name, spec) in enumerate(own.items()):
            add(name, f"losses.{name}.optimizer", spec, reach.task_specific(k), (k,))
        return tuple(groups)

    add(SHARED, "shared_optimizer", shared, (), ())  # updates nothing; a mistake in it is still one
    for k, (name, spec) in enumerate(own.items()):
        positions = tuple(v for v, by in enumerate(reach.losses) if k in combination.receivers(by))
        add(name, f"losses.{name}.optimizer", spec, positions, (k,))
    for group in groups:
        check_decay(group, reach, GENERAL if own[group.name] == general else f"losses.{group.name}.optimizer")
    return tuple(groups)


def check_decay(group: OptimizerGroup, reach: Reach, field: str) -> None:
    """Raises ConfigError for weight decay of an optimizer applied per loss, given for `field`, on shared variables."""
    decay = group.optimizer.weight_decay
    if decay and set(group.positions) & set(reach.shared):
        reason = "must be None or 0 when applied per loss: each optimizer would decay the shared variables"
        raise ConfigError(f"{field}.weight_decay", decay, reason)


def build(spec: Mapping[str, Any], field: str, timeline: Timeline) -> keras.optimizers.Optimizer:
    """A Keras optimizer that applies gradients as they are, without reducing them across replicas once more.

    Args:
      spec: `name` and arguments; `learning_rate` may be a schedule's `name` and arguments, its `..._steps` in steps,
        epochs or examples.
      field: the configuration's key, for errors.
      timeline: of the whole run, over which a cosine schedule decays where `decay_steps` is not given.

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
        if arguments.get(key) not in (None, False):
            raise ConfigError(f"{field}.{key}", arguments[key], f"must be left out: it {reason}")
    if isinstance(arguments.get("learning_rate"), Mapping):
        arguments["learning_rate"] = schedules.build(arguments["learning_rate"], f"{field}.learning_rate", timeline)
    keras_objects.make_numbers(found, arguments, field)
    refused = (*_REFUSED, "ema_momentum")  # which nothing reads without `use_ema`
    optimizer = keras_objects.build(found, arguments, field=field, base=keras.optimizers.Optimizer, refused=refused)
    _apply_without_reduction(optimizer)
    _name_failures(optimizer, field)
    if (schedule := schedule_of(optimizer)) is not None:
        optimizer._learning_rate = RunSchedule(schedule)  # Keras' setter would call the schedule outside the graph
    return optimizer


def adopt(optimizer: keras.optimizers.Optimizer, field: str) -> None:
    """Makes an optimizer that somebody else built apply gradients as they are; call it in the strategy's scope.

    Args:
      optimizer: the optimizer.
      field: the argument that it was given for, for errors.

    Raises:
      ConfigError: it wraps others, accumulates or scales gradients, or was not built in this scope.
    """
    if keras_objects.name_of(type(optimizer)) in _WRAPPERS:
        raise ConfigError(field, optimizer.name, "wraps other optimizers; give each loss its own by optimizers=")
    if optimizer.gradient_accumulation_steps:
        reason = f"must be None: it {_REFUSED['gradient_accumulation_steps']}; micro_batches splits a batch in parts"
        raise ConfigError(f"{field}.gradient_accumulation_steps", optimizer.gradient_accumulation_steps, reason)
    if optimizer.loss_scale_factor:
        reason = f"must be None: it {_REFUSED['loss_scale_factor']}"
        raise ConfigError(f"{field}.loss_scale_factor", optimizer.loss_scale_factor, reason)
    strategy = tf.distribute.get_strategy()
    if optimizer._distribution_strategy is not strategy:
        raise ConfigError(
            field, optimizer.name, "must be made in the scope of the strategy in which the model was made"
        )
    if optimizer.use_ema and optimizer.ema_overwrite_frequency and strategy.num_replicas_in_sync > 1:
        reason = "must be None on several devices, where Keras cannot overwrite variables within a step"
        raise ConfigError(f"{field}.ema_overwrite_frequency", optimizer.ema_overwrite_frequency, reason)
    _apply_without_reduction(optimizer)


def copy_of(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """An optimizer of its own state, not built, whose learning rate is that of `optimizer`, also after it changes.

    Call it in the strategy's scope.
    """
    copy = type(optimizer).from_config(optimizer.get_config())
    copy._learning_rate = optimizer._learning_rate
    _apply_without_reduction(copy)
    return copy


def first_unknown(optimizer: keras.optimizers.Optimizer, variables: Iterable[keras.Variable]) -> str | None:
    """The path of the first variable for which an optimizer was not built; None: it was built for all."""
    known = optimizer._trainable_variables_indices  # Keras' own, by which it refuses them in a step
    return next((each.path for each in variables if optimizer._var_key(each) not in known), None)


def schedule_of(optimizer: keras.optimizers.Optimizer) -> LearningRateSchedule | None:
    """The schedule of an optimizer's learning rate, for which Keras has no public name; None: it is a number."""
    rate = optimizer._learning_rate
    if isinstance(rate, RunSchedule):
        return rate.schedule
    return rate if isinstance(rate, LearningRateSchedule) else None


@contextlib.contextmanager
def at_step(groups: Iterable[OptimizerGroup], step: tf.Tensor) -> Iterator[None]:
    """Within this context schedules give the learning rates of a step of the run (counted from 0).

    What an optimizer counts itself, such as Adam for its bias correction, stays the number of its own updates.
    """
    with contextlib.ExitStack() as stack:
        for group in groups:
            if isinstance(rate := group.optimizer._learning_rate, RunSchedule):
                stack.enter_context(rate.at(step))
        yield


def learning_rates(groups: Sequence[OptimizerGroup], step: int) -> dict[str, float]:
    """Each optimizer's learning rate in a step of the run (counted from 0), by the name of its `OptimizerGroup`."""
    with at_step(groups, scalars.int64(step)):
        return {group.name: float(keras.ops.convert_to_numpy(group.optimizer.learning_rate)) for group in groups}


def _apply_without_reduction(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes `optimizer.apply` leave gradients alone that every replica already holds in full.

    In a replica context Keras 3 sums gradients across replicas once more and has no public switch for it
    (https://github.com/keras-team/keras/issues/19308); this is the only place that reaches into it.
    """
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise unknown("keras", keras.__version__, "version (its optimizers reduce gradients in another way)", ("3.15",))
    optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    fused_updates.adopt(optimizer)


def _name_failures(optimizer: keras.optimizers.Optimizer, field: str) -> None:
    """Turns what an optimizer raises while its step is traced into a ConfigError that names its field."""
    update_step = optimizer.update_step

    def named(*arguments: Any) -> None:
        try:
            update_step(*arguments)
        except import_paths.USER_ERRORS as error:
            reason = f"{type(error).__name__}: {reason_of(error)}"
            raise ConfigError(field, type(optimizer).__name__, f"cannot update its variables: {reason}") from error

    optimizer.update_step = named


def _losses_of(reach: Reach, positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({k for v in positions for k in reach.losses[v]}))
