"""Norms, cosines and coefficients of a step as logs of `fit`."""

from collections.abc import Sequence
from itertools import combinations

import tensorflow as tf

from trainer.step.values import Measurement


def logs(measured: Measurement, names: Sequence[str]) -> dict[str, tf.Tensor]:
    """`grad_norm_<loss>`, `cosine_<a>_<b>`, `coefficient_<loss>`; NaN for a loss that took no part in the step.

    Args:
      measured: what a step measured.
      names: of the K losses.
    """
    active = measured.active & measured.measured
    both = active[:, tf.newaxis] & active
    norms = _or_nan(active, measured.grad_norms)
    coefficients = _or_nan(active, measured.coefficients)
    cosines = _or_nan(both, measured.cosines)
    return (
        {f"grad_norm_{name}": norms[k] for k, name in enumerate(names)}
        | {f"cosine_{a}_{b}": cosines[j, k] for (j, a), (k, b) in combinations(enumerate(names), 2)}
        | {f"coefficient_{name}": coefficients[k] for k, name in enumerate(names)}
    )


def _or_nan(there: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.where(there, values, tf.constant(float("nan"), values.dtype))
