"""A differential equation solved by a network: its residual is one loss, its boundary values are another.

The solution of u'' + k² u = 0 with u(0) = 0 and u(1) = 1 is sin kx. The residual of the equation is about k⁴ times as
large as the error at the ends, and the function 0, whose largest error is 1.0, leaves no residual: the plain sum of the
losses ends there (`--combine=weighted`: 1.0). With each loss's gradient brought to unit length (`normalized`) the
largest error at 201 points is 0.0002. A weight of 1000 for the ends, found by trying, gives 0.0025
(`--combine=weighted --config.losses.boundary.weight=1000`).

bash launch/local.sh --config=configs/differential_equation.py
"""

from collections.abc import Callable
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples

HERE = "configs.differential_equation"
K = 2.5 * np.pi
MOST_REPLICAS = 64


def load() -> dict[str, Examples]:
    """Points x in [0, 1]; `boundary` is known at both ends only, `solution` is for the evaluation."""
    inside = np.random.RandomState(0).uniform(size=960)
    return {"train": _split(np.append(inside, [0, 1] * 32)), "validation": _split(np.linspace(0, 1, 201))}


def _split(x: np.ndarray) -> Examples:
    u = np.sin(K * x)[:, np.newaxis]
    known = ((x == 0) | (x == 1)).astype(np.float32)
    return Examples({"x": x[:, np.newaxis]}, {"boundary": u, "solution": u}, {"boundary": known})


def residual(u: tf.Tensor, x: tf.Tensor, derivative: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The square of u'' + k² u at each point."""
    return tf.reduce_sum(derivative(derivative(u, x), x) + K**2 * u, -1) ** 2


class LargestError(keras.metrics.Metric):
    """The largest absolute error of all points."""

    def __init__(self, name: str = "largest_error", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        # Keras sums what replicas have: each of them keeps its number in a place of its own.
        self.largest = self.add_weight(shape=(MOST_REPLICAS,), initializer="zeros", name="largest")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Adds a batch of points."""
        context = tf.distribute.get_replica_context()  # None where the metric is tried
        own = tf.range(MOST_REPLICAS) == (0 if context is None else context.replica_id_in_sync_group)
        largest = tf.reduce_max(tf.abs(y_true - y_pred))
        self.largest.assign(tf.maximum(self.largest, tf.where(own, largest, 0.0)))

    def result(self) -> tf.Tensor:
        """Returns the error."""
        return tf.reduce_max(self.largest)


def get_config() -> ml_collections.ConfigDict:
    """Two losses of one head, whose gradients are brought to one length, so that neither drowns the other."""
    return ml_collections.ConfigDict(
        {
            "steps": 3000,
            "batch_size": 128,
            "steps_per_loop": 500,
            "report_every": 500,
            "eval_every": 1500,
            "dataset": {"name": f"{HERE}:load"},
            "model": {
                "trunk": [{"layer": "Dense", "units": 32, "activation": "tanh"}] * 3,
                "heads": {"u": [{"layer": "Dense", "units": 1}]},
            },
            "losses": {
                "equation": {"loss": f"{HERE}:residual", "reads": {"u": "heads.u", "x": "inputs.x"}},
                "boundary": {"head": "u", "loss": "mse"},
            },
            "metrics": {"solution": {"head": "u", "metrics": ["mae", f"{HERE}:LargestError"]}},
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 5e-3, "decay_steps": 3000},
            },
            "combine": {"name": "normalized"},
        }
    )
