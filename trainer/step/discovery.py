"""Finds which losses reach which variable, in a scratch trace that never runs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.common import import_paths, patterns
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.components import comparisons, loss_values
from trainer.components.losses import NamedLoss
from trainer.components.predictions import Predictions
from trainer.config.paths import MODEL
from trainer.distributed import strategy as strategy_lib
from trainer.gradients.reach import Reach, recording
from trainer.models import forward_pass, recomputation
from trainer.models.names import variables_by_name
from trainer.step.random_draws import RandomDraws

SUMMED = "summed_over_replicas"  # name of an operation of a scratch trace in whose place a step has a collective


class Discovered(NamedTuple):
    """The findings of a scratch trace.

    Attributes:
      reach: which of them reach which variable.
      masked: for each of them, whether a mask or an ignored class can take some of its values out.
      draws: what draws random numbers.
    """

    reach: Reach
    masked: tuple[bool, ...]
    draws: RandomDraws


def discover_reach(
    model: keras.Model, losses: Sequence[NamedLoss], batch_spec: Mapping[str, Any], strategy: tf.distribute.Strategy
) -> Discovered:
    """Finds which losses reach which variables, which can be masked, and what draws random numbers.

    All come from a scratch trace of one replica: a loss reaches the variables on which it has a gradient there.

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
        a layer that adds a loss which no loss names (`from`), or one that is named and adds none.
    """
    variables = tuple(model.trainable_variables)
    by_name = {id(variable): name for name, variable in variables_by_name(model).items()}
    names = tuple(by_name[id(variable)] for variable in variables)
    found: list[list[bool]] = []
    masked: list[bool] = []
    draws = RandomDraws(model)

    def trace(batch: Mapping[str, Any]) -> None:
        found.clear()
        masked.clear()  # a function that makes variables in its first trace is traced twice
        with scratch_trace(strategy), recording(variables) as tape:
            try:
                with draws.of_model():
                    predictions = forward_pass.predict(model, losses, batch["inputs"], training=True, all_added=True)
            except ConfigError:
                raise
            except import_paths.USER_ERRORS as error:
                reason = f"{loss_values.advice(error)}{first_line(error)}"
                raise ConfigError("model", model.name, f"fails with training=True: {reason}") from error
            sums = []
            for loss in losses:
                with draws.of_loss(loss.name):
                    sums += comparisons.sums([loss], predictions, batch)
        _check_added(losses, predictions)
        masked.extend(of_loss.left is not None for of_loss in sums)
        with _ScratchReplica(strategy, strategy_lib.first_replica(strategy)):
            for of_loss in sums:
                gradients = tape.gradient(of_loss.loss_sum, [variable.value for variable in variables])
                found.append([gradient is not None for gradient in gradients])

    tf.function(trace, autograph=False).get_concrete_function(batch_spec)
    return Discovered(_reach(variables, names, losses, found), tuple(masked), draws)


def _reach(
    variables: Sequence[keras.Variable], names: Sequence[str], losses: Sequence[NamedLoss], found: list[list[bool]]
) -> Reach:
    """The reach, from whether each loss has a gradient on each variable; changes `found`."""
    for loss, reaches in zip(losses, found, strict=True):
        if not any(reaches):
            raise ConfigError(
                f"losses.{loss.name}",
                ConfigError.ABSENT,
                f"reaches no trainable variable through {loss.source}; it cannot train anything",
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
        if not patterns.matching(reached, pattern):
            raise ConfigError(
                f"losses.{loss.name}.variables.{index}",
                pattern,
                f"matches none of the variables that the loss reaches: {', '.join(reached)}",
            )
    chosen = {name for pattern in loss.variables for name in patterns.matching(names, pattern)}
    for v, name in enumerate(names):
        reaches[v] &= name in chosen


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


def _check_added(losses: Sequence[NamedLoss], predictions: Predictions) -> None:
    """Raises ConfigError unless all that layers add in training is a loss, and every such loss has something."""
    found = [*predictions.added, *predictions.unnamed]
    for loss in losses:
        if loss.added_by is not None and loss.added_by not in predictions.added:
            raise unknown(f"losses.{loss.name}.from", loss.added_by, "layer that adds a loss in training", found)
    if predictions.unnamed:
        named = predictions.unnamed[0]
        raise ConfigError(
            "model",
            ", ".join(predictions.unnamed),
            "adds losses by add_loss or an activity_regularizer, which no loss names: add to `losses` "
            f'"<name>": {{"from": "{named}"}}, or {{"from": "{MODEL}"}} for all that the model adds',
        )
