"""Keras `compile` and `fit` as a contender: of `keras.Model`, or of `MultiLossModel`."""

import queue
import threading
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from tests.benchmarks.problems import Problem
from trainer import MultiLossModel

_PREFETCHED = 4


def model(problem: Problem, model_class: type[keras.Model] = keras.Model) -> keras.Model:
    """The problem's model, as a Keras user writes it."""
    outputs = inputs = keras.Input(problem.inputs)
    for layer in problem.trunk:
        outputs = _layer(layer)(outputs)
    heads = {
        name: keras.layers.Dense(width, name=name)(outputs)
        for name, width in zip(problem.names, problem.widths, strict=True)
    }
    return model_class(inputs, heads)


def train(
    problem: Problem,
    strategy: tf.distribute.Strategy,
    *,
    steps_per_execution: int = 1,
    endless: bool = False,
    jit_compile: bool = False,
    combine: str | None = None,
) -> Callable[[int], float]:
    """One long `fit`; every epoch of the problem's examples waits until it is asked for.

    Args:
      problem: what to train.
      strategy: where.
      steps_per_execution: of `compile`.
      endless: repeat the data and tell `fit` the steps of an epoch, which spares it a new iterator for each.
      jit_compile: of `compile`.
      combine: of `MultiLossModel.compile`; None: the model is a `keras.Model`.

    Returns:
      A function from a number of steps, a multiple of an epoch's, to the seconds they took.
    """
    inputs, targets, _ = problem.arrays()
    data = tf.data.Dataset.from_tensor_slices((inputs, targets)).cache().shuffle(problem.examples)
    data = data.repeat() if endless else data
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread has held up a new epoch for half a minute, and it gains nothing here
    data = data.batch(problem.batch_size).prefetch(_PREFETCHED).with_options(options)
    with strategy.scope():
        trained = model(problem, keras.Model if combine is None else MultiLossModel)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trained.compile(
            keras.optimizers.Adam(1e-3),
            loss={problem.names[0]: cross_entropy} | dict.fromkeys(problem.names[1:], "mse"),
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **({} if combine is None else {"combine": combine}),
        )
    gate = _Gate()
    steps_per_epoch = problem.epoch if endless else None

    def fit() -> None:
        try:
            with strategy.scope():
                trained.fit(data, epochs=10**9, steps_per_epoch=steps_per_epoch, verbose=0, callbacks=[gate])
        except Exception as error:
            gate.seconds.put(error)

    threading.Thread(target=fit, daemon=True).start()

    def steps(count: int) -> float:
        return sum(gate.epoch() for _ in range(count // problem.epoch))

    return steps


class _Gate(keras.callbacks.Callback):
    """Lets one epoch through at a time and says how long it took."""

    def __init__(self):
        super().__init__()
        self.seconds: queue.Queue[float | Exception] = queue.Queue()
        self._asked: queue.Queue[None] = queue.Queue()
        self._start = 0.0

    def epoch(self) -> float:
        self._asked.put(None)
        seconds = self.seconds.get()
        if isinstance(seconds, Exception):
            raise seconds
        return seconds

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._asked.get()
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.put(time.perf_counter() - self._start)


def _layer(description: dict) -> keras.layers.Layer:
    arguments = dict(description)
    return getattr(keras.layers, arguments.pop("layer"))(**arguments)
