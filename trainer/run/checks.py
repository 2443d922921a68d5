"""Checks that need the data and the model, made before the first step."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from input_pipelines.configuration import TRAIN
from input_pipelines.data import Data
from input_pipelines.examples import NotFinite
from input_pipelines.feed.splits import Split, WrongClassError
from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line, reason_of, unknown
from trainer.components import loss_checks
from trainer.components import losses as losses_lib
from trainer.components import predictions as predictions_lib
from trainer.components.losses import NamedLoss
from trainer.components.metrics import LossMetric
from trainer.config import paths, reads
from trainer.config.loss_settings import LossConfig, MetricsConfig
from trainer.gradients.reach import Reach
from trainer.models import embeddings, forward_pass

_SOME_EXAMPLES = 32
_LARGE_TABLE_BYTES = 2**26


def batch_size(size: int, micro_batches: int, train: Split, replicas: int) -> None:
    """Raises ConfigError where a global batch leaves a replica without an example, or is larger than the split."""
    if size < replicas:
        raise ConfigError("batch_size", size, f"must be at least the number of replicas, {replicas}")
    part = size // micro_batches
    if part < replicas:
        raise ConfigError(
            "micro_batches",
            micro_batches,
            f"leaves {part} examples in a part, fewer than the {replicas} replicas",
        )
    if size > train.largest_batch:
        raise ConfigError(
            "batch_size",
            size,
            f"must be at most the size of the training split, {train.largest_batch} examples",
        )


def what_is_read(
    losses: Mapping[str, LossConfig], metrics: Mapping[str, MetricsConfig], splits: Mapping[str, Split]
) -> None:
    """Raises ConfigError for a target or an input that a split lacks, though a loss or metrics read it."""
    for split, examples in splits.items():
        there, word = examples.spec["targets"], f"target (in the {split} split)"
        evaluated = {} if split == TRAIN else metrics
        for kind, entries in (("losses", losses), ("metrics", evaluated)):
            for name, each in entries.items():
                if each.target is not None and each.target not in there:
                    raise unknown(f"{kind}.{name}.target", each.target, word, there)
        reads.check_names(losses, paths.TARGETS, there, word)
        reads.check_names(losses, paths.INPUTS, predictions_lib.named_inputs(examples.spec["inputs"]), "input")


def outputs(model: keras.Model, inputs: Any, name: str) -> Mapping[str, Any]:
    """Returns a model's outputs for inputs of these `tf.TensorSpec`s: head name → Keras' symbolic tensor.

    Raises:
      ConfigError: the model (`model.name` is `name`) does not take them, or gives anything else.
    """
    tensors = tf.nest.map_structure(lambda spec: keras.KerasTensor(tuple(spec.shape), spec.dtype.name), inputs)
    try:
        given = model.compute_output_spec(tensors)
    except Exception as error:
        shapes = tf.nest.map_structure(lambda spec: tuple(spec.shape), inputs)
        raise ConfigError(
            "model.name", name, f"does not take the inputs, of shape {shapes}: {first_line(error)}"
        ) from error
    if not isinstance(given, Mapping) or not all(hasattr(output, "shape") for output in given.values()):
        raise ConfigError("model.name", name, "must return a dictionary from head names to one output each")
    for head, output in given.items():
        if 0 in output.shape[1:]:
            raise ConfigError("model.name", name, f"head {head!r} gives {tuple(output.shape[1:])} per example: nothing")
    return given


def variables(named: Mapping[str, Any], name: str) -> None:
    """Raises ConfigError for a variable of no number, on which TensorFlow's kernels may end the process.

    Args:
      named: the model's variables by their names.
      name: `model.name`.
    """
    for path, variable in named.items():
        if 0 in variable.shape:
            reason = f"its variable {path} has the shape {tuple(variable.shape)}: what reaches that layer holds nothing"
            raise ConfigError("model.name", name, reason)


def classes(losses: Sequence[NamedLoss], heads: Mapping[str, Any], data: Data) -> Data:
    """Returns the data with class indices checked: beyond a head's classes, a GPU would give NaN, a CPU fail somewhere.

    Args:
      losses: the losses; a class that one ignores may be any number.
      heads: head name → what the model gives for it, as `outputs` returns them.
      data: the data; streaming splits raise where they read another class.

    Raises:
      ConfigError: there is another class.
    """
    checked = dict(data.splits)
    for loss in losses:
        if not loss.targets_are_classes or loss.target is None:
            continue
        count = loss.prediction(heads).shape[-1]
        for split, examples in checked.items():
            try:
                checked[split] = examples.check_classes(loss.target, count, loss.ignored_class)
            except WrongClassError as error:
                raise ConfigError(
                    f"losses.{loss.name}.target",
                    loss.target,
                    f"{error.allowed} of {loss.source} ({split} split: {error.value})",
                ) from error
    return dataclasses.replace(data, splits=checked)


def probabilities(
    model: keras.Model, losses: Sequence[NamedLoss], metrics: Mapping[str, Mapping[str, LossMetric]], train: Split
) -> list[str]:
    """A line for every loss that takes, or has metrics that take, probabilities where the untrained model gives others.

    Raises:
      ConfigError: the model fails on training examples.
    """
    of_probabilities = {
        name: [metric for metric, built in own.items() if built.inputs.of_probabilities]
        for name, own in metrics.items()
    }
    if not any(loss.takes_probabilities or of_probabilities[loss.name] for loss in losses):
        return []
    inputs = tf.nest.map_structure(tf.constant, train.first(_SOME_EXAMPLES)["inputs"])
    try:
        predictions = predictions_lib.of(model(inputs, training=False))
    except import_paths.USER_ERRORS as error:
        raise ConfigError("model", model.name, f"fails on training examples: {reason_of(error)}") from error
    return loss_checks.logits_taken_for_probabilities(losses, predictions.outputs, of_probabilities)


def not_finite(model: keras.Model, losses: Sequence[NamedLoss], numbers: Sequence[NotFinite]) -> None:
    """Raises ConfigError for NaN or infinity in an array of the user's that the untrained model or a loss passes on."""
    for number in numbers:
        batch = tf.nest.map_structure(tf.constant, number.batch)
        predictions = forward_pass.predict(model, losses, batch["inputs"], training=False)
        if number.part == "inputs":
            heads = dict.fromkeys(head for loss in losses for head in loss.names(paths.HEADS))
            results = {f"head {head!r}": predictions.outputs[head] for head in heads}
            read = [loss for loss in losses if loss.head is None]
            results |= {f"loss {loss.name!r}": losses_lib.sums(loss, predictions, batch).loss_sum for loss in read}
            advice = "put a number in its place"
        else:
            read = [loss for loss in losses if number.name in loss.names(paths.TARGETS)]
            results = {f"loss {loss.name!r}": losses_lib.sums(loss, predictions, batch).loss_sum for loss in read}
            advice = f"where an example has no label, give it the weight 0 in weights.{number.name}"
        for result, values in results.items():
            if not bool(tf.reduce_all(tf.math.is_finite(values))):
                named = f"{number.part[:-1]} {number.name!r}" if number.name else "the input"
                raise ConfigError(
                    number.field,
                    f"example {number.example}",
                    f"{named} of the {number.split} split holds {number.value} there, and so does {result}; {advice}",
                )


def dense_tables(model: keras.Model, reach: Reach) -> list[str]:
    """A line for each large table of an embedding, where every loss's gradient is kept whole, zeros and all."""
    tables = {id(table): table for table in embeddings.tables(model)}
    lines = []
    for (name, variable), losses_of in zip(reach.by_name.items(), reach.losses, strict=True):
        size = len(losses_of) * math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
        if id(variable) in tables and size > _LARGE_TABLE_BYTES:
            lines.append(
                f"the gradients of {len(losses_of)} losses for the table {name} are dense: "
                f"{size / 2**20:,.0f} MiB in every step, of which a batch touches a few rows; reduction='fused' keeps "
                "one of them, model.embedding_units or the operation 'categories' with a 'minimum' make it smaller"
            )
    return lines
