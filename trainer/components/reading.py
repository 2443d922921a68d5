"""Tensors that losses read by path (`losses.<name>.reads`), the weights and masks of these, and derivatives."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import labels, loss_calls
from trainer.components.loss_calls import Checked
from trainer.components.predictions import Predictions
from trainer.config.paths import DERIVATIVE, HEADS, INPUTS, LAYERS, TARGETS, Path


def tensor(path: Path, predictions: Predictions, batch: Mapping[str, Mapping[str, Any]]) -> Any:
    """Returns what a path names: of the predictions, or of the `targets` of a batch."""
    places = {
        HEADS: predictions.outputs,
        LAYERS: predictions.layers,
        INPUTS: predictions.inputs,
        TARGETS: batch.get("targets", {}),
    }
    return places[path.kind][path.name]


def weights_of(paths: Iterable[Path], batch: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Returns the weights of the targets among some paths, those that have any."""
    given = batch.get("weights", {})
    return [given[path.name] for path in paths if path.kind == TARGETS and path.name in given]


def masks_of(paths: Iterable[Path], predictions: Predictions) -> list[Any]:
    """Returns the masks of the heads and layers among some paths, those that have one."""
    places = {HEADS: predictions.masks, LAYERS: predictions.layer_masks}
    return [places[path.kind][path.name] for path in paths if path.name in places.get(path.kind, {})]


def weight(paths: Iterable[Path], batch: Mapping[str, Mapping[str, Any]]) -> Any | None:
    """Returns the product of the weights of the targets among some paths; None: 1."""
    found = weights_of(paths, batch)
    return found[0] if len(found) == 1 else labels.product(found, found[0].dtype) if found else None


def mask(paths: Iterable[Path], predictions: Predictions) -> Any | None:
    """Returns where no mask of the heads and layers among some paths is False; None: everywhere."""
    result = None
    for each in masks_of(paths, predictions):
        result = labels.both(result, each)
    return result


def without_nan(
    reads: Mapping[str, Path], given: Mapping[str, tf.Tensor]
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """Returns what a function is given with 0 for NaN in targets, and bool tensors of these, True where labels are.

    Args:
      reads: argument → what it is given.
      given: argument → tensor.
    """
    found, there = dict(given), []
    for argument, path in reads.items():
        if path.kind == TARGETS and given[argument].dtype.is_floating:
            found[argument], numbers = labels.without_nan(given[argument])
            there.append(numbers)
    return found, there


def check_over(over: str | None, field: str, *, takes_derivative: bool) -> None:
    """Raises ConfigError for a loss that compares examples (`over`, of this key) and takes derivatives."""
    if takes_derivative and over is not None:
        raise ConfigError(field, over, "puts other examples together than those it differentiates by")


def values(function: Callable, field: str, given: Mapping[str, tf.Tensor], tape: tf.GradientTape | None) -> Checked:
    """Returns the values of a function and their mask, as `loss_calls.of_arguments` does.

    Args:
      function: a function of these arguments.
      field: its key in the configuration, for errors.
      given: argument → tensor, batch first.
      tape: that of `derivative`, which the function then has as an argument; None: it has not.
    """
    if tape is None:
        return loss_calls.of_arguments(function, field, given)
    with tape:
        return loss_calls.of_arguments(function, field, given, {DERIVATIVE: derivative(tape, given, field)})


def derivative(tape: tf.GradientTape, given: Mapping[str, tf.Tensor], field: str) -> Callable[..., tf.Tensor]:
    """Returns `derivative(output, input)` for a function that is called while the tape records.

    For an output of some examples it gives the derivative of each example's sum by that example's own input, of the
    input's shape, and can be differentiated again.

    Args:
      tape: persistent; it has recorded the call of the model.
      given: argument → what the function is given for it.
      field: the configuration's key of the function, for errors.
    """

    @tf.autograph.experimental.do_not_convert
    def of(output: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # the names that a caller may give
        with _without_advice():
            found = tape.gradient(output, input)
        if found is not None:
            return tf.convert_to_tensor(found)
        named = next((f"{name!r}" for name, each in given.items() if each is input), "what is no argument of its own")
        reason = f"derivative(output, input): the output does not depend on {named}, or that is not floating-point"
        raise ConfigError(field, ConfigError.ABSENT, reason)

    return of


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Leaves out TensorFlow's line that a gradient which can be differentiated again costs more."""
    level = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")
    try:
        yield
    finally:
        tf.get_logger().setLevel(level)
