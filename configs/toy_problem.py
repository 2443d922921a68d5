"""Two losses of two variables that pull apart: which starts reach the Pareto set depends on the combination.

The toy problem of CAGrad (https://arxiv.org/abs/2110.14048), which Nash-MTL and FAMO use too. Above x2 = 0 each loss
has a deep and narrow valley of its own; below, each is a bowl, and between the bottoms of these, near x2 = -8.36 from
x1 = -7 to 7, lies the Pareto set, where neither loss can fall unless the other rises.

Notice that the sum stays in the first valley it comes to, where one loss's gradient outweighs the other's, unless it
starts below; combinations that let no loss lose walk on from all three starts. It takes 100,000 steps to see where
all of them end (`python -m tests.benchmarks.toy_problem`), the 2,000 here to see in which direction they leave.

python -m trainer.main --config=configs/toy_problem.py --combine=mgda
python -m trainer.main --config=configs/toy_problem.py --combine=sum --config.steps=100000 --config.eval_every=10000
python -m trainer.main --config=configs/toy_problem.py --config.model.options.start='(9.0, 9.0)'
"""

from collections.abc import Sequence

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples

STARTS = ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))


def losses(x1: tf.Tensor, x2: tf.Tensor) -> dict[str, tf.Tensor]:
    """Both losses at the points (x1, x2), of any shape."""

    def valley(distance: tf.Tensor) -> tf.Tensor:
        return tf.math.log(tf.maximum(tf.abs(distance), 5e-6)) + 6

    def bowl(x1: tf.Tensor) -> tf.Tensor:
        return (x1**2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20

    above, below = tf.maximum(tf.tanh(0.5 * x2), 0), tf.maximum(tf.tanh(-0.5 * x2), 0)
    return {
        "first": above * valley(0.5 * (-x1 - 7) - tf.tanh(-x2)) + below * bowl(-x1 + 7),
        "second": above * valley(0.5 * (-x1 + 3) + tf.tanh(-x2) + 2) + below * bowl(-x1 - 7),
    }


@keras.saving.register_keras_serializable("toy_problem")
class Point(keras.layers.Layer):
    """Two variables, and both losses there as outputs for every example, whatever the example."""

    def __init__(self, start: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.start = tuple(start)
        self.x = self.add_weight(shape=(2,), initializer=lambda shape, dtype: tf.constant(self.start, dtype), name="x")

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The two losses, each of shape (examples,)."""
        x = tf.convert_to_tensor(self.x)
        return {name: tf.fill(tf.shape(inputs)[:1], value) for name, value in losses(x[0], x[1]).items()}

    def compute_output_spec(self, inputs: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """One number per example from each output."""
        return {name: keras.KerasTensor(inputs.shape[:1], self.compute_dtype) for name in ("first", "second")}


def model(start: Sequence[float] = STARTS[0]) -> keras.Model:
    """A model whose only variables are x1 and x2."""
    inputs = keras.Input((), name="nothing")
    return keras.Model(inputs, Point(start, name="point")(inputs))


def data(examples: int = 16) -> dict[str, Examples]:
    """Examples that say nothing, because a step needs a batch; it takes less time to cut one from several."""
    nothing = Examples(np.zeros(examples), {"nothing": np.zeros(examples)})
    return {"train": nothing, "validation": nothing}


def output_itself(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """The model's output as the loss."""
    del target
    return prediction


def get_config() -> ml_collections.ConfigDict:
    """Adam at 1e-3 from the first start, in double precision; the options are those of the authors' toy problems."""
    return ml_collections.ConfigDict(
        {
            "precision": "float64",
            "steps": 2000,
            "batch_size": 1,
            "steps_per_loop": 500,
            "report_every": 500,
            "eval_every": 2000,
            "dataset": {"name": "configs.toy_problem:data", "may_overlap": True},
            "model": {"name": "configs.toy_problem:model", "options": {"start": STARTS[0]}},
            "losses": {
                name: {"head": name, "target": "nothing", "loss": "configs.toy_problem:output_itself"}
                for name in ("first", "second")
            },
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "combine": {
                "name": "sum",
                "cagrad": {"c": 0.5},
                # Both losses stay above -20; FAMO takes the logarithm of what is left above its bounds.
                "famo": {"lower_bounds": -21.0, "decay": 0.0},
            },
        }
    )
