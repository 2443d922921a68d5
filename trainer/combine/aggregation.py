"""Any combination method on a plain matrix of gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from trainer.combine import combination as combination_lib
from trainer.combine import mixing, registry, user_function
from trainer.combine.combination import Combination
from trainer.combine.problem import Problem
from trainer.common import schema
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.gradients import gramian as gramian_lib


def aggregate(
    name: str | Callable[..., Any],
    jacobian: Any,
    losses: Any | None = None,
    active: Sequence[bool] | None = None,
    seed: int = 0,
    step: int = 0,
    *,
    weights: Sequence[float] | None = None,
    jacobian2: Any | None = None,
    **options: Any,
) -> tf.Tensor:
    """Combines K gradients as `--combine=name` would combine the gradients of K losses that share every variable.

    A method that remembers something starts from its initial state.

    Args:
      name: a method's name; or a function of your own, itself or by its import path.
      jacobian: (K, n), float32 or float64; row k is the gradient of loss k.
      losses: (K,) loss values, for methods that look at them.
      active: (K,) bool; rows of losses to leave out are False, whatever they and their losses hold. Default: all True.
      seed: as the configuration's `seed`, for random methods.
      step: number of the step (from 0), for random methods.
      weights: (K,) weights, for methods that use them; a loss of weight 0 is left out by every method. Default: ones.
      jacobian2: (K, n), the gradients over a second batch, for methods that look at two. Default: `jacobian`.
      **options: the method's options, as `combine.<name>.<option>`, or those of your function.

    Returns:
      (n,) of the Jacobian's dtype: the combined gradient (for `independent` the sum of what the optimizers would get).

    Raises:
      ConfigError: an unknown method or option, an argument of the wrong shape, losses that are missing or have no
        logarithm; a function of your own that raises, or returns what a method does not.
    """
    own = callable(name) or registry.check_name(name, "name") not in registry.METHODS
    checked = options if own else _check_options(name, options)
    rows = _matrix(jacobian, "jacobian")
    count = rows.shape[0]
    if not own:
        registry.check_count(name, checked, count)
    method, remaining = registry.resolve(name, checked, field="name", options_field="options")
    combination, name = Combination(method, remaining, count), _shown(name)
    everything = active is None and weights is None
    active = tf.ones([count], tf.bool) if active is None else tf.cast(_vector(active, "active", count), tf.bool)
    weights = tf.ones([count], tf.float64) if weights is None else _weights(weights, count)
    active &= weights != 0.0
    problem = Problem(
        active=active,
        loss_weights=weights,
        losses=_losses(losses, name, combination, active, weights),
        gramian=None,
        seed=combination_lib.step_seed(seed, step),
        step=tf.constant(step, tf.int64),
        epoch=tf.constant(0, tf.int64),
    )
    second = None if jacobian2 is None else _second(jacobian2, name, combination, rows)
    if not everything:
        rows, second = (None if each is None else tf.where(active[:, tf.newaxis], each, 0) for each in (rows, second))
    return _combined(combination, rows, second, problem)


def _combined(combination: Combination, rows: tf.Tensor, second: tf.Tensor | None, problem: Problem) -> tf.Tensor:
    """(n,): the (K, n) rows combined, after those of a second batch have entered where the method looks at two."""
    count = combination.count
    if combination.keeps is not None and count > 1:
        factors = (1 - combination.keeps) * combination.scales_of_averaged(problem.loss_weights, problem.losses)
        rows *= tf.cast(factors, rows.dtype)[:, tf.newaxis]
    if combination.of_two_batches:
        both = tf.concat([rows, rows if second is None else second], axis=0)
        problem = problem._replace(gramian=gramian_lib.block(both)[:count, count:])
    elif combination.needs_gramian:
        problem = problem._replace(gramian=gramian_lib.block(rows))
    solved = combination.solve(problem, combination.initial_state()) if combination.method.yields_coefficients else None
    by, normalizers = tuple(range(count)), tf.ones([count], tf.float64)
    (matrix,) = mixing.mixing_matrices(
        combination,
        [rows],
        [by],
        normalizers=normalizers,
        shared_normalizers=normalizers,
        problem=problem,
        coefficients=solved and solved.coefficients,
    )
    if matrix is None:
        return mixing.elements(combination, tf.unstack(rows), by, normalizers, problem, 0)
    mixture = tf.reduce_sum(matrix, axis=0)

    def mixed(wide: bool) -> tf.Tensor:
        # One matrix has no replicas whose order of additions must be the same, so that this need not be `joint`.
        dtype = tf.float64 if wide else rows.dtype
        return tf.cast(tf.linalg.matvec(tf.cast(rows, dtype), tf.cast(mixture, dtype), transpose_a=True), rows.dtype)

    return mixing.with_room(combination, rows.dtype, {by: matrix}, mixed)


def _second(values: Any, name: str, combination: Combination, like: tf.Tensor) -> tf.Tensor:
    if not combination.of_two_batches:
        raise ConfigError(
            "jacobian2", ConfigError.ABSENT, f"is for methods that look at two batches; {name!r} does not"
        )
    return _matrix(values, "jacobian2", like)


def _matrix(values: Any, field: str, like: tf.Tensor | None = None) -> tf.Tensor:
    matrix = _tensor(values, field)
    given = f"{matrix.dtype.name}{list(matrix.shape)}"
    if matrix.shape.rank != 2 or not matrix.shape[0] or not matrix.dtype.is_floating:
        raise ConfigError(field, given, "must be a floating-point matrix (losses, parameters)")
    if like is not None and (matrix.shape, matrix.dtype) != (like.shape, like.dtype):
        raise ConfigError(field, given, f"must be as the jacobian, {like.dtype.name}{list(like.shape)}")
    return matrix


def _vector(values: Any, field: str, count: int) -> tf.Tensor:
    vector = _tensor(values, field)
    if tuple(vector.shape) != (count,):
        raise ConfigError(field, values, f"must hold one value for each of the {count} rows")
    return vector


def _weights(values: Sequence[float], count: int) -> tf.Tensor:
    _vector(values, "weights", count)
    return tf.constant([schema.number()(float(weight), "weights") for weight in values], tf.float64)


def _losses(
    values: Any | None, name: str, combination: Combination, active: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor | None:
    count = combination.count
    if values is None:
        if combination.sees_losses or combination.lower_bounds is not None:
            raise ConfigError(
                "losses", None, f"must hold one value for each of the {count} rows: {name!r} looks at them"
            )
        return None
    losses = tf.cast(_vector(values, "losses", count), tf.float64)
    accepted = combination.in_domain(losses, weights, active).numpy()
    if not accepted.all():
        k = int(accepted.argmin())
        bound = combination.lower_bounds[k]
        raise ConfigError(f"losses.{k}", float(losses[k]), f"must be above {bound:g}: {name!r} takes its logarithm")
    return tf.where(active, losses, 0.0)


def _tensor(values: Any, field: str) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(values)
    except (ValueError, TypeError) as error:
        raise ConfigError(field, values, f"is not a tensor: {first_line(error)}") from error


def _shown(name: str | Callable[..., Any]) -> str:
    return user_function.name_of(name) if callable(name) else name


def _check_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    kind = registry.METHODS[name].options
    if kind is None:
        if options:
            key = next(iter(options))
            raise unknown(f"combine.{name}.{key}", options[key], "option", ())
        return {}
    return vars(schema.record(kind)(options, f"combine.{name}"))
