"""Single steps of a method on the small problem."""

import tensorflow as tf

from tests import problems
from trainer.run import experiment
from trainer.run.experiment import Experiment
from trainer.step.values import State, Totals

SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN = {f"losses__{name}__optimizer": SGD for name in problems.LOSSES} | {"shared_optimizer": SGD}
MISSING = {"dataset__options": {"missing": True}}


def build(replicas: int, name: str, **changes) -> Experiment:
    return experiment.build(problems.config(combine__name=name, **changes), problems.strategy(replicas))


def one_step(built: Experiment, train, iterator, step: int, state: State) -> tuple[State, Totals]:
    numbers = (tf.constant(value, tf.int64) for value in (step, 1))
    return train(iterator, *numbers, tf.constant(True), state, built.step.initial_totals())


def first_step(built: Experiment) -> tuple[State, Totals]:
    return one_step(built, built.step.build(), iter(built.batches(0)), 0, built.step.initial_state())
