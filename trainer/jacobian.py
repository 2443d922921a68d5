"""Every loss's gradients on one replica, and which losses reach which variable.

Gradients stay a list per variable: for each variable one tensor for every loss that reaches it, in the order of the
losses. They are never concatenated into one matrix, which would take several times the memory and store zeros where
a loss does not reach.
"""

import contextlib
import dataclasses
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import keras
import tensorflow as tf

from trainer import imports
from trainer import losses as losses_lib
from trainer import strategy as strategy_lib
from trainer.errors import ConfigError, first_line
from trainer.losses import LossSums, NamedLoss
from trainer.models import recomputation

Extra = TypeVar("Extra")
Jacobian = tuple[tuple[tf.Tensor, ...], ...]


@dataclasses.dataclass(frozen=True)
class Reach:
    """Which losses reach which variable.

    Attributes:
      variables: the trainable variables that at least one loss reaches, in the model's order.
      losses: for each of them, the indices of the losses that reach it, ascending.
      unreached: trainable variables that no loss reaches; they are never updated.
    """

    variables: tuple[keras.Variable, ...]
    losses: tuple[tuple[int, ...], ...]
    unreached: tuple[keras.Variable, ...] = ()

    @property
    def shared(self) -> tuple[int, ...]:
        """Positions in `variables` of those that two losses or more reach."""
        return tuple(v for v, losses in enumerate(self.losses) if len(losses) > 1)

    @property
    def not_shared(self) -> tuple[int, ...]:
        """Positions in `variables` of those that one loss alone reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if len(losses) == 1)

    def task_specific(self, loss: int) -> tuple[int, ...]:
        """Positions in `variables` of those that only `loss` (an index) reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if losses == (loss,))

    def reached_by(self, loss: int) -> tuple[int, ...]:
        """Positions in `variables` of all that `loss` (an index) reaches."""
        return tuple(v for v, losses in enumerate(self.losses) if loss in losses)


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
    found: list[list[bool]] = []

    def trace(batch: Mapping[str, Any]) -> None:
        with scratch_trace(strategy), tf.GradientTape(persistent=True) as tape:
            try:
                outputs = losses_lib.full_precision(model(batch["inputs"], training=True))
            except imports.USER_ERRORS as error:
                raise ConfigError("model", model.name, f"fails with training=True: {first_line(error)}") from error
            totals = [losses_lib.sums(loss, outputs, batch).weighted for loss in losses]
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
            _restrict(reaches, loss, [variable.path for variable in variables])
    reached = [tuple(k for k, reaches in enumerate(found) if reaches[v]) for v in range(len(variables))]
    return Reach(
        variables=tuple(variable for variable, by in zip(variables, reached, strict=True) if by),
        losses=tuple(by for by in reached if by),
        unreached=tuple(variable for variable, by in zip(variables, reached, strict=True) if not by),
    )


def per_loss_gradients(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    scale: tf.Tensor | None = None,
    parts: Sequence[tf.Tensor | None] = (None,),
) -> tuple[Jacobian, tuple[LossSums, ...]]:
    """One forward pass and one backward pass per loss, over this replica's part of the batch.

    Args:
      model: the model; called with `training=True`.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: `inputs`, `targets` and perhaps `weights`.
      scale: scalar float32 by which every loss is multiplied for its backward pass; None: 1.
      parts: which examples count, as `losses.sums` has it; the losses are those of the first part, then those of the
        next, and `reach` is of all of them.

    Returns:
      For every variable of `reach`, the gradients of Σ w·ℓ of the losses that reach it (dense, of the variable's
      shape), times `scale`; and every loss's sums.
    """
    with tf.GradientTape(persistent=True) as tape:
        sums = forward(model, losses, batch, parts)
    columns: list[dict[int, tf.Tensor]] = [{} for _ in reach.variables]
    gradients: list[Any] = []
    for k, loss_sums in enumerate(sums):
        positions = reach.reached_by(k)
        with tf.control_dependencies(gradients):  # one pass after another, each with the memory of one
            upstream = tf.ones_like(loss_sums.weighted) if scale is None else tf.identity(scale)
        gradients = tape.gradient(
            loss_sums.weighted,
            [reach.variables[v].value for v in positions],
            output_gradients=upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]  # an embedding's sparse one made dense
        for v, gradient in zip(positions, gradients, strict=True):
            columns[v][k] = gradient
    return tuple(tuple(column[k] for k in by) for column, by in zip(columns, reach.losses, strict=True)), sums


def weighted_gradients(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    weigh: Callable[[Sequence[LossSums]], tuple[tf.Tensor, tf.Tensor, Extra]],
) -> tuple[tuple[tf.Tensor, ...], Extra]:
    """One forward and one backward pass of a weighted sum of the losses, over this replica's part of the batch.

    Args:
      model: the model; called with `training=True`.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: `inputs`, `targets` and perhaps `weights`.
      weigh: given every loss's sums, returns (K,) factors for shared variables, (K,) factors for task-specific ones
        (the same tensor where they are the same), and anything more.

    Returns:
      For every variable of `reach` its gradient of Σ factorₖ Σ w·ℓₖ; and what else `weigh` returned.
    """
    with tf.GradientTape(persistent=True) as tape:
        found = forward(model, losses, batch)
        with tape.stop_recording():  # the factors are constants; a sum across replicas would be differentiated too
            shared, own, extra = weigh(found)
        values = tf.stack([loss.weighted for loss in found])
        total = tf.reduce_sum(tf.cast(shared, values.dtype) * values)
        total_of_own = total if own is shared else tf.reduce_sum(tf.cast(own, values.dtype) * values)
    everything = tuple(range(len(reach.variables)))
    parts = [(total, everything)] if own is shared else [(total, reach.shared), (total_of_own, reach.not_shared)]
    gradients: dict[int, tf.Tensor] = {}
    for objective, positions in parts:
        found_gradients = tape.gradient(
            objective,
            [reach.variables[v].value for v in positions],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients |= dict(zip(positions, map(tf.convert_to_tensor, found_gradients), strict=True))
    return tuple(gradients[v] for v in everything), extra


def forward(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    batch: Mapping[str, Any],
    parts: Sequence[tf.Tensor | None] = (None,),
) -> tuple[LossSums, ...]:
    """Every loss's sums over each of some parts of the batch, the model called once with `training=True`."""
    outputs = losses_lib.full_precision(model(batch["inputs"], training=True))
    return tuple(losses_lib.sums(loss, outputs, batch, part) for part in parts for loss in losses)


def regularizer_gradients(reach: Reach) -> dict[int, tf.Tensor]:
    """Gradients of the variables' own regularizers, by position in `reach.variables`; only where there is one."""
    gradients = {}
    for v, variable in enumerate(reach.variables):
        if getattr(variable, "regularizer", None) is not None:
            with tf.GradientTape() as tape:
                penalty = variable.regularizer(variable)
            gradients[v] = tf.convert_to_tensor(tape.gradient(penalty, variable.value))
    return gradients


def _restrict(reaches: list[bool], loss: NamedLoss, paths: Sequence[str]) -> None:
    """Leaves in `reaches` only the variables that the loss's patterns match."""
    reached = [path for path, reaches_it in zip(paths, reaches, strict=True) if reaches_it]
    for index, pattern in enumerate(loss.variables):
        if not any(fnmatch.fnmatchcase(path, pattern) for path in reached):
            raise ConfigError(
                f"losses.{loss.name}.variables.{index}",
                pattern,
                f"matches none of the variables that the loss reaches: {', '.join(reached)}",
            )
    for v, path in enumerate(paths):
        reaches[v] &= any(fnmatch.fnmatchcase(path, pattern) for pattern in loss.variables)


@contextlib.contextmanager
def scratch_trace(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """What is traced within this context never runs: it is one replica's part, with everything in a single graph."""
    first = strategy_lib.first_replica(strategy)
    with _nested_functions_inlined(), recomputation.disabled(), _ScratchReplica(strategy, first):
        yield


@contextlib.contextmanager
def _nested_functions_inlined() -> Iterator[None]:
    """A nested `tf.function` would give gradients of zero, not None, for variables that a loss does not reach."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


class _ScratchReplica(tf.distribute.ReplicaContext):
    """A replica context for traces that never run: one replica's variables, and reductions that leave values alone."""

    def all_reduce(self, reduce_op: Any, value: Any, options: Any = None) -> Any:
        del reduce_op, options
        return value


def _refuse_added_losses(model: keras.Model) -> None:
    regularized = sum(getattr(variable, "regularizer", None) is not None for variable in model.trainable_variables)
    if len(model.losses) > regularized:
        raise ConfigError(
            "model",
            model.name,
            "calls add_loss or has an activity_regularizer; make that a loss of its own, with a name, under `losses`",
        )
