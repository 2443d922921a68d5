"""Input pipelines as contenders: a preset's own, plain TFDS beside it, and the step that consumes what they give."""

import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipelines import configuration as data_configuration
from tests.benchmarks import ours
from tests.benchmarks.problems import Preset
from trainer.config import loading, settings
from trainer.run import experiment
from trainer.run.experiment import Experiment

_SHUFFLED = 10_000
_GROUPS = (0, 1, 0, 2, 0, 3, 0, 3, 4, 3)


def pipeline(preset: Preset, strategy: tf.distribute.Strategy) -> Callable[[int], float]:
    """The preset's training batches, taken and let go."""
    return _taken(iter(_built(preset, strategy).batches(0)))


def train(preset: Preset, strategy: tf.distribute.Strategy, *, per_call: int) -> Callable[[int], float]:
    """The preset's training, input included."""
    return ours.Run(_built(preset, strategy), per_call).steps


def plain(preset: Preset, strategy: tf.distribute.Strategy, *, by_batch: bool) -> Callable[[int], float]:
    """The same batches of `fashion_mnist` without the trainer."""
    config = _config(preset)
    return _taken(iter(plain_dataset(config.dataset, config.batch_size, by_batch=by_batch)))


def plain_dataset(
    config: data_configuration.DatasetConfig, batch_size: int, *, by_batch: bool = False
) -> tf.data.Dataset:
    """Endless batches of inputs and three targets: label, group and the picture itself.

    As TFDS's guide has them, load, map, shuffle, batch, prefetch; or `by_batch`, which is faster, mapped at the end.
    """

    def prepared(example: dict[str, tf.Tensor]) -> dict[str, Any]:
        image = tf.cast(example["image"], tf.float32) / 255.0
        group = tf.gather(tf.constant(_GROUPS, tf.int64), example["label"])
        return {"inputs": image, "targets": {"label": example["label"], "group": group, "image": image}}

    name = data_configuration.tfds_name(config.name)
    examples = tfds.load(name, split="train", data_dir=config.data_dir, shuffle_files=True, download=False)
    if not by_batch:
        examples = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.shuffle(_SHUFFLED).repeat().batch(batch_size, drop_remainder=True)
    if by_batch:
        batches = batches.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def first_batch(preset: Preset, strategy: tf.distribute.Strategy, step: int) -> float:
    """Seconds from nothing but the data to the batch of a step."""
    built = _built(preset, strategy)
    start = time.perf_counter()
    next(iter(built.batches(step)))
    return time.perf_counter() - start


def window(preset: Preset, strategy: tf.distribute.Strategy) -> float:
    """Seconds in which the records of a window are read, and nothing else is done."""
    records = _built(preset, strategy).train.source.records
    count = int(records.sizes[: records.mixed_blocks].sum())
    start = time.perf_counter()
    next(iter(records.in_order().batch(count)))
    return time.perf_counter() - start


def _taken(batches: Iterator) -> Callable[[int], float]:
    def steps(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        return time.perf_counter() - start

    return steps


def _built(preset: Preset, strategy: tf.distribute.Strategy) -> Experiment:
    return _experiment(json.dumps(preset.plain, sort_keys=True), strategy)


@functools.cache
def _experiment(preset: str, strategy: tf.distribute.Strategy) -> Experiment:
    return experiment.build(_config(Preset(**json.loads(preset))), strategy)


def _config(preset: Preset) -> settings.Config:
    return loading.load(preset.config, list(preset.overrides.items()))
