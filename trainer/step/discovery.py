"""Finds which losses reach which variable, in a scratch trace that never runs."""

import contextlib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import comparisons
from trainer.components import losses as losses_lib
from trainer.components.losses import NamedLoss
from trainer.distributed import strategy as strategy_lib
from trainer.gradients.reach import Reach
from trainer.models import recomputation
from trainer.models.names import variables_by_name

SUMMED = "summed_over_replicas"  # name of an operation of a scratch trace in whose place a step has a collective


def discover_reach(
    model: keras.Model, losses: Sequence[NamedLoss], batch_spec: Mapping[str, Any], strategy: tf.distribute.Strategy
) -> Reach:
    """Finds which losses reach which variables, from the gradients that exist in a scratch trace of one replica.

    A loss with patterns of its own (`losses.<name>.variables`) reaches only the variables that they match.

    The trace runs every loss function once on symbolic tensors, so it is also where a loss that cannot be used is
    named.

    Args:
      model: the model, built.
      losses: the losses, in the order of the configuration.
      batch_spec: `tf.TensorSpec`s of one replica's part of a batch.
      strategy: the strategy whose scope built the model.

    Raises:
      ConfigError: a loss that reaches no trainable variable, returns a scalar or fails; a pattern that matches none;
        an `add_loss` in the model.
    """
    variables = tuple(model.trainable_variables)
    by_name = {id(variable): name for name, variable in variables_by_name(model).items()}
    names = tuple(by_name[id(variable)] for variable in variables)
    found: list[list[bool]] = []

    def trace(batch: Mapping[str, Any]) -> None:
        with scratch_trace(strategy), tf.GradientTape(persistent=True) as tape:
            try:
                outputs = losses_lib.full_precision(model(batch["inputs"], training=True))
            except import_paths.USER_ERRORS as error:
                raise ConfigError("model", model.name, f"fails with training=True: {first_line(error)}") from error
            totals = [loss_sums.loss_sum for loss_sums in comparisons.sums(losses, outputs, batch)]
        _refuse_added_losses(model)
        for total in totals:
            gradients = tape.gradient(total, [variable.value for variable in variables])
            found.append([gradient is not None for gradient in gradients])

    tf.function(trace, autograph=False).get_concrete_function(batch_spec)
    for loss, reaches in zip(losses, found, strict=True):
        if not any(reaches):
            raise ConfigError(
                f"losses.{loss.name}",
                ConfigError.ABSENT,
                f"reaches no trainable variable through head {loss.head!r}; it cannot train anything",
            )
    for loss, reaches in zip(losses, found, strict=True):
        if loss.variables is not None:
            _restrict(reaches, loss, names)
    reached = [tuple(k for k, reaches in enumerate(found) if reaches[v]) for v in range(len(variables))]
    return Reach(
        variables=tuple(variable for variable, by in zip(variables, reached, strict=True) if by),
        losses=tuple(by for by in reached if by),
        names=tuple(name for name, by in zip(names, reached, strict=True) if by),
        unreached=tuple(name for name, by in zip(names, reached, strict=True) if not by),
    )


def _restrict(reaches: list[bool], loss: NamedLoss, names: Sequence[str]) -> None:
    """Leaves in `reaches` only the variables whose names the loss's patterns match."""
    reached = [name for name, reaches_it in zip(names, reaches, strict=True) if reaches_it]
    for index, pattern in enumerate(loss.variables):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in reached):
            raise ConfigError(
                f"losses.{loss.name}.variables.{index}",
                pattern,
                f"matches none of the variables that the loss reaches: {', '.join(reached)}",
            )
    for v, name in enumerate(names):
        reaches[v] &= any(fnmatch.fnmatchcase(name, pattern) for pattern in loss.variables)


@contextlib.contextmanager
def scratch_trace(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Traces within this context one replica's part of a step that never runs, with everything in a single graph."""
    first = strategy_lib.first_replica(strategy)
    with _nested_functions_inlined(), recomputation.disabled(), _ScratchReplica(strategy, first):
        yield


@contextlib.contextmanager
def _nested_functions_inlined() -> Iterator[None]:
    """Inlines nested `tf.function`s: they would give gradients of 0, not None, for variables out of a loss's reach."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


class _ScratchReplica(tf.distribute.ReplicaContext):
    """A replica context for traces that never run: one replica's variables, and reductions that leave values alone."""

    @property
    def num_replicas_in_sync(self) -> int:
        """There is no other replica, so that nothing is gathered."""
        return 1

    def all_reduce(self, reduce_op: Any, value: Any, options: Any = None) -> Any:
        del reduce_op, options
        return tf.nest.map_structure(lambda part: tf.identity(part, SUMMED), value, expand_composites=True)


def _refuse_added_losses(model: keras.Model) -> None:
    regularized = sum(getattr(variable, "regularizer", None) is not None for variable in model.trainable_variables)
    if len(model.losses) > regularized:
        raise ConfigError(
            "model",
            model.name,
            "calls add_loss or has an activity_regularizer; make that a loss of its own, with a name, under `losses`",
        )
