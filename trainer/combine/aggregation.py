"""Any combination method on a plain matrix of gradients."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from trainer import schema
from trainer.combine import combination as combination_lib
from trainer.combine import gramian as gramian_lib
from trainer.combine import registry
from trainer.errors import ConfigError, first_line, unknown


def aggregate(
    name: str,
    jacobian: Any,
    losses: Any | None = None,
    active: Sequence[bool] | None = None,
    seed: int = 0,
    step: int = 0,
    *,
    weights: Sequence[float] | None = None,
    **options: Any,
) -> tf.Tensor:
    """Combines K gradients as `--combine=name` would combine the gradients of K losses that share every variable.

    Args:
      name: a method's name.
      jacobian: (K, n), float32 or float64; row k is the gradient of loss k.
      losses: (K,) loss values, for methods that look at them; checked where given.
      active: (K,) bool; rows of losses to leave out are False. Default: all True.
      seed: as the configuration's `seed`, for random methods.
      step: number of the step (from 0), for random methods.
      weights: (K,) weights, for methods that use them. Default: ones.
      **options: the method's options, as `combine.<name>.<option>`.

    Returns:
      (n,) of the Jacobian's dtype: the combined gradient (for `independent` the sum of what the optimizers would get).

    Raises:
      ConfigError: an unknown method or option, or an argument of the wrong shape.
    """
    if not isinstance(name, str) or name not in registry.METHODS:
        raise unknown("name", name, "combination", registry.METHODS)
    checked = _check_options(name, options)
    jacobian = _tensor(jacobian, "jacobian")
    if jacobian.shape.rank != 2 or not jacobian.shape[0] or not jacobian.dtype.is_floating:
        raise ConfigError(
            "jacobian",
            f"{jacobian.dtype.name}{list(jacobian.shape)}",
            "must be a floating-point matrix (losses, parameters)",
        )
    count = jacobian.shape[0]
    for field, values in (("losses", losses), ("active", active), ("weights", weights)):
        if values is not None and tuple(_tensor(values, field).shape) != (count,):
            raise ConfigError(field, values, f"must hold one value for each of the {count} rows")
    rows, by = (tuple(tf.unstack(jacobian)),), (tuple(range(count)),)
    active = tf.ones([count], tf.bool) if active is None else tf.cast(_tensor(active, "active"), tf.bool)
    rows = (tuple(tf.where(active[k], row, 0.0) for k, row in enumerate(rows[0])),)
    weights = [1.0] * count if weights is None else [schema.number()(float(weight), "weights") for weight in weights]
    combination = combination_lib.build(name, checked, count)
    coefficients = combination.coefficients(
        rows,
        by,
        active=active,
        weights=tf.constant(weights, tf.float64),
        gramian=gramian_lib.total([gramian_lib.block(rows[0])], by, count) if combination.needs_gramian else None,
        seed=combination_lib.step_seed(seed, step),
    )
    return combination_lib.joint(rows[0], coefficients[0])


def _tensor(values: Any, field: str) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(values)
    except (ValueError, TypeError) as error:
        raise ConfigError(field, values, f"is not a tensor: {first_line(error)}") from error


def _check_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    kind = registry.METHODS[name].options
    if kind is None:
        if options:
            key = next(iter(options))
            raise unknown(f"combine.{name}.{key}", options[key], "option", ())
        return {}
    return vars(schema.record(kind)(options, f"combine.{name}"))
