"""Losses do what they are for: a teacher, another head and triplets each teach a head something."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import problems
from trainer.config import loading
from trainer.run import experiment

HERE = "tests.properties.test_losses_at_work"
CLASSES, STEPS = 3, 120
CROSSENTROPY = {"name": "sparse_categorical_crossentropy", "from_logits": True}


def load() -> dict[str, Examples]:
    """Two views of each example: in both three numbers say its class, and three larger ones say nothing."""
    return {"train": _split(600, 1), "validation": _split(300, 2)}


def _split(count: int, seed: int) -> Examples:
    random = np.random.RandomState(seed)
    label = random.randint(CLASSES, size=count)
    inputs = {}
    for name in ("left", "right"):
        telling = 3 * np.eye(CLASSES)[label] + 0.5 * random.normal(size=(count, CLASSES))
        inputs[name] = np.concatenate([telling, 2 * random.normal(size=(count, CLASSES))], -1)
    return Examples(inputs, {"label": label, "teacher": 2 * inputs["left"][:, :CLASSES]})


def views() -> keras.Model:
    """A trunk and two heads on the left view, a head on the right one, which share nothing with it."""
    left, right = (keras.Input((2 * CLASSES,), name=name) for name in ("left", "right"))
    hidden = keras.layers.Dense(16, activation="tanh")(left)
    heads = {
        "left": keras.layers.Dense(CLASSES)(hidden),
        "embedding": keras.layers.UnitNormalization()(keras.layers.Dense(2)(hidden)),
        "right": keras.layers.Dense(CLASSES)(keras.layers.Dense(16, activation="tanh")(right)),
    }
    return keras.Model({"left": left, "right": right}, heads)


def agreement(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of two heads' probabilities."""
    return tf.reduce_mean((tf.nn.softmax(left) - tf.nn.softmax(right)) ** 2, -1)


class Neighbours(keras.metrics.MeanMetricWrapper):
    """The share of the examples of a batch whose nearest neighbour in it is of the same class."""

    def __init__(self, name: str = "neighbours"):
        super().__init__(_neighbours, name)


def _neighbours(label: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
    distance = tf.reduce_sum((embedding[:, None] - embedding[None]) ** 2, -1)
    distance = tf.linalg.set_diag(distance, tf.fill(tf.shape(distance)[:1], tf.constant(np.inf, distance.dtype)))
    label = tf.reshape(label, [-1])
    return tf.cast(tf.gather(label, tf.argmin(distance, -1)) == label, embedding.dtype)


# Name → losses, the head whose metric without a loss shows what it learned, that metric, and the least that it reaches.
CASES = {
    "distillation": (
        {"taught": {"head": "left", "target": "teacher", "loss": "distillation"}},
        ("left", "accuracy", 0.95),
    ),
    "consistency": (
        {
            "left": {"target": "label", "loss": CROSSENTROPY},
            "agree": {
                "loss": f"{HERE}:agreement",
                "reads": {"left": "heads.left", "right": "heads.right"},
                "weight": 5.0,
            },
        },
        ("right", "accuracy", 0.95),
    ),
    "triplets": (
        {
            "class": {"head": "left", "target": "label", "loss": CROSSENTROPY, "metrics": ["accuracy"]},
            "near": {"head": "embedding", "target": "label", "loss": "triplet_semihard", "over": "global_batch"},
        },
        ("embedding", f"{HERE}:Neighbours", 0.9),
    ),
}


@pytest.mark.parametrize(
    "case", ["consistency", *(pytest.param(name, marks=pytest.mark.ci_only) for name in ("distillation", "triplets"))]
)
def test_it_teaches_what_it_is_for(case):
    """The head is right in the end, and was much worse before the training. Two of the heads never see a label."""
    losses, (head, metric, least) = CASES[case]
    tree = {
        "batch_size": 64,
        "dataset": {"name": f"{HERE}:load"},
        "model": {"name": f"{HERE}:views"},
        "losses": losses,
        "metrics": {"judged": {"head": head, "target": "label", "metrics": [metric]}},
        "optimizer": {"name": "adam", "learning_rate": 0.02},
    }
    built = experiment.build(loading.resolve(tree), problems.strategy(1))
    evaluate, name = built.evaluator.build(), f"judged/{metric.rpartition(':')[2]}"
    before = evaluate()
    problems.train(built, STEPS, calls=4)
    after = evaluate()
    assert before[name] < least - 0.2
    assert after[name] > least
    if case == "triplets":
        assert after["class/accuracy"] > 0.95
