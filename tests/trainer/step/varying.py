"""Steps that take batches of any size up to the largest, on models that no example could spoil."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.config import plan
from trainer.run import build_step, experiment, optimization
from trainer.run.experiment import Experiment
from trainer.run.network import Network
from trainer.step.objectives import Objectives
from trainer.step.step import Step

LARGEST, SMALLER = 12, 7  # examples
SIZES = {1: (7,), 2: (5, 2), 3: (3, 4, 0)}  # of each replica


def normalized() -> keras.Model:
    """A trunk with batch statistics and a layer that cannot take zeros, with the heads of `problems`."""
    inputs = keras.Input((6,), name="inputs")
    features = keras.layers.Dense(5, name="dense")(Direction(name="direction")(inputs))
    return _with_heads(inputs, keras.layers.BatchNormalization(name="norm")(features))


def directed() -> keras.Model:
    """A trunk that cannot take zeros, with the heads of `problems`."""
    inputs = keras.Input((6,), name="inputs")
    return _with_heads(inputs, Direction(name="direction")(inputs))


def synchronized() -> keras.Model:
    """A trunk with statistics of the whole batch, with the heads of `problems`."""
    inputs = keras.Input((6,), name="inputs")
    features = keras.layers.Dense(5, use_bias=False, name="dense")(inputs)  # nothing depends on a bias
    return _with_heads(inputs, keras.layers.BatchNormalization(synchronized=True, name="norm")(features))


def _with_heads(inputs: keras.KerasTensor, features: keras.KerasTensor) -> keras.Model:
    heads = {"label": 4, "number": 1, "vector": 3}
    return keras.Model(inputs, {name: keras.layers.Dense(units, name=name)(features) for name, units in heads.items()})


class Direction(keras.layers.Layer):
    """The direction of a vector: no number, with gradients that are none, where that is zero. It counts its calls."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        scaled = self.scale * inputs
        return scaled / tf.sqrt(tf.reduce_sum(tf.square(scaled), -1, keepdims=True))


def logarithmic(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss with gradients that are no numbers where a target is zero."""
    return tf.reduce_mean(tf.square(tf.math.log(tf.abs(target)) * prediction), axis=-1)


SIMPLE = {name: value for name, value in problems.SIMPLE.items() if "optimizer" not in name}
MODELS = {
    "simple": SIMPLE,
    "compared": {
        **SIMPLE,
        "losses__vector__target": "label",
        "losses__vector__loss": "tests.problems:triplet",
        "losses__vector__over": "global_batch",
    },
    "masked": {
        **SIMPLE,
        "losses__label__loss": {"name": "sparse_categorical_crossentropy", "from_logits": True, "ignore_class": 2},
        "losses__label__normalizer": "examples",
    },
    "directed": {"model": {"name": f"{__name__}:directed"}},
    "synchronized": {"model": {"name": f"{__name__}:synchronized"}},
    "not of zeros": {"model": {"name": f"{__name__}:normalized"}, "losses__vector__loss": f"{__name__}:logarithmic"},
}


@functools.cache
def _built(model: str, replicas: int, missing: bool) -> tuple[Experiment, list[np.ndarray]]:
    """An experiment, of which only the step is made anew, and the values of its model at the start."""
    config = problems.config(**MODELS[model], dataset__options={"missing": missing})
    built = experiment.build(config, problems.strategy(replicas))
    return built, [variable.numpy() for variable in built.model.variables]


def step_of(model: str, replicas: int, missing: bool, way: dict, *, varying: bool = True, watch: Any = None) -> Step:
    """The step of a way to compute, on a model as it was at the start."""
    built, start = _built(model, replicas, missing)
    for variable, value in zip(built.model.variables, start, strict=True):
        variable.assign(value)
    options = {"batch_size": LARGEST if varying else SMALLER, "dataset__options": {"missing": missing}}
    config = problems.config(**MODELS[model] | options | way)
    network = Network(built.model, built.losses, (), {}, built.data)
    of_losses = (config.losses, config.optimizer, config.shared_optimizer)
    timeline = dataclasses.replace(built.timeline, batch_size=config.batch_size)
    made = optimization.build(config.combine, *of_losses, None, built.reach, timeline, built.strategy)
    masked = built.step.objectives.masked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_step, "Objectives", functools.partial(Objectives, varying=varying))
        step_plan, strategy = plan.of(config), built.strategy
        return build_step.build(config, step_plan, network, built.reach, masked, made, timeline, strategy, watch)


def examples(missing: bool, count: int = SMALLER) -> dict[str, Any]:
    """A batch of the training split."""
    split = problems.load(missing=missing)["train"]
    batch = {"inputs": split.inputs, "targets": split.targets} | ({"weights": split.weights} if missing else {})
    return tf.nest.map_structure(lambda rows: rows[10 : 10 + count], batch)


def shared_out(batch: Any, sizes: Sequence[int]) -> Any:
    """The batch on replicas, of which each has this many examples."""
    ends = np.cumsum([0, *sizes])

    def of_replicas(rows: np.ndarray) -> Any:
        parts = [tf.constant(rows[first:end]) for first, end in itertools.pairwise(ends)]
        return problems.strategy(len(sizes)).experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    return tf.nest.map_structure(of_replicas, batch)


def take(step: Step, batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """All that some steps leave: variables, optimizers, losses, norms, cosines."""
    state, totals = step.initial_state(), step.initial_totals()
    for number, batch in enumerate(batches):
        numbers = tf.constant(number, tf.int64), tf.constant(True)
        state, totals = step.one_step(iter([batch]), *numbers, state, totals)
    return left(step, state, totals)


def left(step: Step, state: Any, totals: Any) -> dict[str, np.ndarray]:
    """All that steps have left, which must have been taken."""
    assert int(totals.failed_step) == -1
    found = {variable.path: variable.numpy() for variable in step.objectives.model.variables}
    for group in step.updates.groups:
        found |= {f"{group.name}/{index}": np.array(own) for index, own in enumerate(group.optimizer.variables)}
    found |= {f"state/{name}": value.numpy() for name, value in step.remembered(state).items()}
    found |= {"losses": totals.losses.numpy(), "counts": totals.counts.numpy()}
    measured = totals.measured._asdict() if bool(totals.measured.measured) else {}
    return found | {f"measured/{name}": value.numpy() for name, value in measured.items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    """Two runs have left the same."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)
