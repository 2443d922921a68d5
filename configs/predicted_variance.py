"""A mean with its variance, predicted by `gaussian_nll`, beside a number predicted by `mse`.

The noise of these data grows with the input. Held out, both heads have a root mean squared error of 0.345 (guessing the
mean: 0.768; the true function: 0.338). The negative log-likelihood of the Gaussian head is 0.111; that of the other,
with the noise's average deviation, 0.355 (mean and deviation of the data alone: 1.156; the true distribution: 0.079).
Intervals that are to hold 90 % hold 90.0 % and 89.3 % of all targets. But by segments the Gaussian head's hold 90.4 %
where there is little noise and 89.7 % where there is much, the constant ones 99.0 % and 80.4 %.

bash launch/local.sh --config=configs/predicted_variance.py
"""

import math

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples

HERE = "configs.predicted_variance"
SHARE = 1.645  # standard deviations on either side of the mean, between which 90 % lie


def load() -> dict[str, Examples]:
    """One input x in [0, 1], and sin 2πx with noise whose standard deviation is 0.05 + 0.5 x."""
    return {"train": _split(2000, 0), "validation": _split(2000, 1)}


def _split(count: int, seed: int) -> Examples:
    random = np.random.RandomState(seed)
    x = random.uniform(size=count)
    y = np.sin(2 * np.pi * x) + (0.05 + 0.5 * x) * random.normal(size=count)
    return Examples(x[:, np.newaxis], {"y": y, "noisy": x > 0.5})


def nll(target: tf.Tensor, prediction: tf.Tensor, deviation: float | None = None) -> tf.Tensor:
    """The negative log-likelihood of a normal distribution; without `deviation` its variance is predicted."""
    mean, deviation = _normal(prediction, deviation)
    return tf.math.log(math.sqrt(2 * math.pi) * deviation) + ((target - mean) / deviation) ** 2 / 2


def within_90(target: tf.Tensor, prediction: tf.Tensor, deviation: float | None = None) -> tf.Tensor:
    """Returns 1 where the target lies in the interval that is to hold 90 %, else 0."""
    mean, deviation = _normal(prediction, deviation)
    return tf.cast(tf.abs(target - mean) < SHARE * deviation, target.dtype)


def _normal(prediction: tf.Tensor, deviation: float | None) -> tuple[tf.Tensor, tf.Tensor]:
    return prediction[:, 0], tf.exp(prediction[:, 1] / 2) if deviation is None else tf.cast(deviation, prediction.dtype)


def get_config() -> ml_collections.ConfigDict:
    """Two heads of their own layers; the deviation of the second is that of the noise over all x."""
    hidden = [{"layer": "Dense", "units": 32, "activation": "tanh"}] * 2
    constant = {"deviation": 0.333}
    return ml_collections.ConfigDict(
        {
            "steps": "60 epochs",
            "batch_size": 64,
            "steps_per_loop": 200,
            "report_every": "10 epochs",
            "eval_every": "20 epochs",
            "dataset": {"name": f"{HERE}:load"},
            "model": {
                "heads": {
                    "gaussian": [*hidden, {"layer": "Dense", "units": 2}],
                    "number": [*hidden, {"layer": "Dense", "units": 1}],
                }
            },
            "losses": {
                "gaussian": {
                    "target": "y",
                    "loss": "gaussian_nll",
                    "metrics": ["root_mean_squared_error", f"{HERE}:nll", f"{HERE}:within_90"],
                },
                "number": {
                    "target": "y",
                    "loss": "mse",
                    "metrics": [
                        "root_mean_squared_error",
                        {"name": f"{HERE}:nll"} | constant,
                        {"name": f"{HERE}:within_90"} | constant,
                    ],
                },
            },
            "optimizer": {"name": "adam", "learning_rate": 3e-3},
            "segments": {"by": "noisy"},
        }
    )
