"""The trainer as a contender: a problem's configuration, built and stepped as `trainer.run.loop` does it."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from input_pipelines.examples import Examples
from tests.benchmarks import graph_kernels
from tests.benchmarks.problems import Problem
from trainer.config import loading
from trainer.distributed.workers import Workers
from trainer.run import compile_choice, experiment
from trainer.run.experiment import Experiment
from trainer.run.timed_steps import TimedSteps
from trainer.step.alternating import Alternating
from trainer.step.gathered import OneBatch


def load(**problem: Any) -> dict[str, Examples]:
    """The data of a problem, as a dataset of the trainer's."""
    described = Problem(**problem)
    return {"train": Examples(*described.arrays()), "validation": Examples(*described.arrays(described.batch_size))}


def build(problem: Problem, strategy: tf.distribute.Strategy, **changes: Any) -> Experiment:
    """The experiment of a problem, its configuration changed, in the way that `auto` finds; raises ConfigError."""
    built = experiment.build(loading.resolve(configuration(problem, **changes)), strategy)
    return compile_choice.choose(built, Workers(strategy)).built


def configuration(problem: Problem, **changes: Any) -> dict[str, Any]:
    """The configuration of a problem, changed."""
    heads = {
        name: [{"layer": "Dense", "units": width}] for name, width in zip(problem.names, problem.widths, strict=True)
    }
    cross_entropy = {"name": "sparse_categorical_crossentropy", "from_logits": True}
    losses = {
        name: {"head": name, "target": name, "loss": cross_entropy if name == problem.names[0] else "mse"}
        for name in problem.names
    }
    tree = {
        "dataset": {"name": f"{__name__}:load", "options": dataclasses.asdict(problem)},
        "model": {"trunk": list(problem.trunk), "heads": heads},
        "losses": losses,
        "combine": {"name": "mean"},
        "reduction": "per_loss",
        "batch_size": problem.batch_size,
        "steps": 10**6,
    }
    return _merged(tree, changes)


class Run:
    """A training without evaluations, reports and checkpoints.

    Args:
      built: what is trained.
      per_call: steps of one call of the in-graph loop.
      batches: the training data; by default the experiment's own.
    """

    def __init__(self, built: Experiment, per_call: int, batches: Iterator | None = None):
        self._per_call, self._step = per_call, 0
        self._train = built.step.build()
        self._batches = built.source(0) if batches is None else batches
        self._state, self._totals = built.step.initial_state(), built.step.initial_totals()

    def steps(self, count: int) -> float:
        """Takes `count` steps and reads their losses; returns the seconds."""
        start = time.perf_counter()
        for _ in range(count // self._per_call):
            self._state, self._totals = self._call(self._train, self._per_call)
        self._totals.losses.numpy()
        return time.perf_counter() - start

    def graph(self) -> tf.Graph:
        """The traced loop."""
        return self._call(self._train.get_concrete_function, 1).graph

    def _call(self, function: Callable[..., Any], count: int) -> Any:
        """The one place that knows what the loop takes."""
        step, count_ = tf.constant(self._step, tf.int64), tf.constant(count, tf.int64)
        self._step += count
        return function(self._batches, step, count_, tf.constant(False), self._state, self._totals)


def train(
    problem: Problem, strategy: tf.distribute.Strategy, *, per_call: int, **changes: Any
) -> Callable[[int], float]:
    """Training as a user has it: the trainer's input, its loop of `per_call` steps, losses read at the end."""
    return Run(build(problem, strategy, **changes), per_call).steps


def train_on_one_batch(
    problem: Problem, strategy: tf.distribute.Strategy, *, per_call: int, **changes: Any
) -> Callable:
    """The same without input."""
    built = build(problem, strategy, **changes)
    return Run(built, per_call, OneBatch(next(iter(built.batches(0))))).steps


def payload(problem: Problem, strategy: tf.distribute.Strategy, **changes: Any) -> int:
    """Bytes that one replica hands to collectives in an ordinary step, one without a probe, from the traced loop."""
    reduced = sum(graph_kernels.collectives(traced(build(problem, strategy, **changes)).graph))
    return reduced // strategy.num_replicas_in_sync  # the graph holds every replica's own


def traced(built: Experiment) -> tf.types.experimental.ConcreteFunction:
    """The loop over ordinary steps: without probes, and those for which the coefficients of an earlier one hold."""
    computation = built.step.computation
    if isinstance(computation, Alternating):
        computation = computation.second
    step = dataclasses.replace(built.step, probes=None, computation=computation)
    return TimedSteps(dataclasses.replace(built, step=step)).traced()


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(tree[key], value) if isinstance(tree.get(key), dict) and isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return {**tree, **nested}
