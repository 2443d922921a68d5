"""The representation that every head starts from, and the losses' gradients there.

A method that weighs whole gradients can take its weights from the gradients at the last representation that all heads
share (MGDA-UB, https://arxiv.org/abs/1810.04650; LibMTL's `rep_grad`): K backward passes through the heads and one
through the trunk, instead of K through both. What is lost: the trunk's own Jacobian does not enter, so the Gramian is
another one (the gradients at the features are an upper bound for those of the trunk's variables), and what heads that
serve several losses have in common does not count.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import losses as losses_lib
from trainer.components.losses import LossSums, NamedLoss
from trainer.gradients import gramian as gramian_lib
from trainer.gradients import ordered_sums
from trainer.gradients.reach import Reach

Extra = TypeVar("Extra")


class Split(NamedTuple):
    """A model in two parts: inputs → features, and features → outputs by head."""

    trunk: keras.Model
    heads: keras.Model


def split(model: keras.Model) -> Split:
    """Cuts a functional model at the last tensor that every output depends on through it alone.

    Raises:
      ConfigError: there is no such tensor but the input, or the model is not a functional one.
    """
    try:
        inputs, outputs = model.input, model.output
    except AttributeError as error:
        raise ConfigError(
            "gradients", "features", f"needs a functional Keras model, which {model.name!r} is not"
        ) from error
    finals = {id(output) for output in tf.nest.flatten(outputs)}
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        try:
            features = layer.output
            if isinstance(features, keras.KerasTensor) and id(features) not in finals:
                return Split(keras.Model(inputs, features), keras.Model(features, outputs))
        except (AttributeError, ValueError):  # a layer used more than once; outputs that need more than these features
            continue
    raise ConfigError(
        "gradients", "features", f"needs a trunk: the heads of {model.name!r} share nothing but the input"
    )


def weighted_gradients(
    parts: Split,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch: Mapping[str, Any],
    weigh: Callable[[Sequence[LossSums], tf.Tensor], tuple[tf.Tensor, tf.Tensor, Extra]],
    scale: tf.Tensor | None = None,
) -> tuple[tuple[tf.Tensor, ...], Extra]:
    """K backward passes to the features, and one on from there for the weighted sum.

    Args:
      parts: the model.
      losses: the K losses.
      reach: which of them reach which variable.
      batch: this replica's part.
      weigh: given every loss's sums and the (K, K) float64 inner products, over this replica's examples, of the
        gradients of Σ w·ℓ at the features, times `scale`², returns (K,) factors for shared variables, (K,) factors for
        task-specific ones, and anything more.
      scale: scalar float32 by which every loss is multiplied for its backward pass; None: 1.

    Returns:
      For every variable of `reach` its gradient of Σ factorₖ Σ w·ℓₖ, times `scale`; and what else `weigh` returned.
    """
    in_trunk = {id(variable) for variable in parts.trunk.trainable_variables}
    trunk = [v for v, variable in enumerate(reach.variables) if id(variable) in in_trunk]
    with tf.GradientTape() as trunk_tape:
        features = parts.trunk(batch["inputs"], training=True)
    with tf.GradientTape(persistent=True) as heads_tape:
        heads_tape.watch(features)
        outputs = losses_lib.full_precision(parts.heads(features, training=True))
        found = tuple(losses_lib.sums(loss, outputs, batch) for loss in losses)
    rows, columns = [], [{} for _ in reach.variables]
    for k, loss_sums in enumerate(found):
        positions = [v for v in reach.reached_by(k) if id(reach.variables[v]) not in in_trunk]
        row, *gradients = heads_tape.gradient(
            loss_sums.weighted,
            [features, *(reach.variables[v].value for v in positions)],
            output_gradients=scale,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        rows.append(row)
        for v, gradient in zip(positions, gradients, strict=True):
            columns[v][k] = tf.convert_to_tensor(gradient)
    shared, own, extra = weigh(found, gramian_lib.block(rows))
    gradients = dict(
        zip(
            trunk,
            trunk_tape.gradient(
                features,
                [reach.variables[v].value for v in trunk],
                output_gradients=ordered_sums.weighted(rows, shared),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            ),
            strict=True,
        )
    )
    for v, by in enumerate(reach.losses):
        if v not in gradients:
            factors = tf.gather(shared if len(by) > 1 else own, by)
            gradients[v] = ordered_sums.weighted([columns[v][k] for k in by], factors)
    return tuple(tf.convert_to_tensor(gradients[v]) for v in range(len(reach.variables))), extra
