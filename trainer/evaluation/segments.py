"""Losses and metrics by segment: of the examples alone that have the same value of a target or an input."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.feed import splits as splits_lib
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.splits import Split
from trainer.common.errors import ConfigError, unknown
from trainer.components import labels, loss_sums
from trainer.components.loss_sums import LossValues
from trainer.components.losses import NamedLoss
from trainer.components.metrics import LossMetric
from trainer.components.predictions import Predictions
from trainer.config.evaluations import MOST_SEGMENTS

Metrics = Mapping[str, Mapping[str, LossMetric]]
_FIELD = "segments.by"
_READ_AT_ONCE = 1024
SEGMENT, WORST = "segment/", "worst"


@dataclasses.dataclass(frozen=True)
class Segments:
    """The segments of the evaluated splits, each with metrics of its own.

    Attributes:
      by: the name of the target or input whose value says to which segment an example belongs.
      part: "targets" or "inputs".
      of_splits: split → the values that it holds, ascending.
      metrics: value → loss name → metric name → metric; of every value, ascending.
      valued: names of the losses that have a value for each example; one that compares examples, or that a layer adds,
        has none for some of them alone.
    """

    by: str
    part: str
    of_splits: Mapping[str, Sequence[int]]
    metrics: Mapping[int, Metrics]
    valued: frozenset[str]

    def places(self, batch: Mapping[str, Any]) -> tf.Tensor:
        """(examples,) int32, the place of each example's segment among all of them; -1: it has no label, so none."""
        values = tf.constant(list(self.metrics), tf.int64)
        own = tf.reshape(tf.cast(batch[self.part][self.by], tf.int64), [-1])
        place = tf.searchsorted(values, own)
        place = tf.where(tf.equal(tf.gather(values, tf.minimum(place, len(self.metrics) - 1)), own), place, -1)
        weights = batch.get("weights", {}).get(self.by) if self.part == "targets" else None
        return place if weights is None else tf.where(tf.reshape(weights, [-1]) > 0, place, -1)

    def add(
        self,
        read: Sequence[NamedLoss],
        predictions: Predictions,
        batch: Mapping[str, Any],
        weights: Mapping[str, tf.Tensor | None],
        values: Mapping[str, LossValues | None],
    ) -> tf.Tensor:
        """Adds a replica's part of a batch to the metrics of every segment; call it in replica context.

        Args:
          read: the losses, and what has metrics without one; K in all.
          predictions: of the model.
          batch: `inputs`, `targets` and perhaps `weights`.
          weights: name → the weight of every label; None: all 1.
          values: name → a loss's values one by one.

        Returns:
          (K, segments, 4) float64: the sums over each segment of `loss_sums.of_examples`. Where there are no values of
          single examples, the last is the number of examples that have a label.
        """
        places = self.places(batch)
        for place, metrics in enumerate(self.metrics.values()):
            chosen = functools.partial(tf.boolean_mask, mask=tf.equal(places, place))
            for each in read:
                if metrics[each.name]:
                    target, prediction = batch["targets"][each.target], each.prediction(predictions.outputs)
                    own = weights[each.name]
                for metric in metrics[each.name].values():
                    metric.update(chosen(target), chosen(prediction), None if own is None else chosen(own))
        columns = (
            loss_sums.of_examples(values[each.name])
            if each.name in self.valued
            else _labelled_only(weights[each.name], tf.size(places))
            for each in read
        )
        return tf.stack([tf.math.unsorted_segment_sum(each, places, len(self.metrics)) for each in columns])

    def zeros(self, count: int) -> tf.Tensor:
        """The sums of no batch, as `add` gives them; `count` is K."""
        return tf.zeros([count, len(self.metrics), loss_sums.COLUMNS], tf.float64)

    def results(self, read: Sequence[NamedLoss], split: str, sums: np.ndarray) -> dict[str, float | None]:
        """The values of each segment of a split by their names in reports, and the worst of each kind.

        Args:
          read: as for `add`.
          split: the split.
          sums: (K, segments, 4), those that `add` gave for all batches of it.
        """
        found: dict[str, float | None] = {}
        worst: dict[str, float | None] = {}
        for place, (value, metrics) in enumerate(self.metrics.items()):
            if value not in self.of_splits[split]:
                continue
            of_value = self._of_segment(read, metrics, sums[:, place])
            found |= {f"{prefix(self.by, value)}{name}": number for name, number in of_value.items()}
            for name, direction in self._directions(read, metrics).items():
                worst[name] = _worse(worst.get(name), of_value.get(name), direction)
        return {f"{name}/{WORST}": number for name, number in worst.items()} | found

    def directions(self, read: Sequence[NamedLoss], split: str) -> dict[str, str]:
        """Name → "up" or "down", the direction of better values; of what `results` gives of losses and metrics."""
        found = self._directions(read, next(iter(self.metrics.values())))
        of_each = {
            f"{prefix(self.by, value)}{name}": direction
            for value in self.of_splits[split]
            for name, direction in found.items()
        }
        return {f"{name}/{WORST}": direction for name, direction in found.items()} | of_each

    def _directions(self, read: Sequence[NamedLoss], metrics: Metrics) -> dict[str, str]:
        """Name → "up" or "down"; of losses, and of metrics of one segment that say it."""
        found = {f"loss/{loss.name}": "down" for loss in read if loss.name in self.valued}
        for each in read:
            for name, metric in metrics[each.name].items():
                if metric.direction is not None:
                    found[f"{each.name}/{name}"] = metric.direction
        return found

    def _of_segment(self, read: Sequence[NamedLoss], metrics: Metrics, sums: np.ndarray) -> dict[str, float | None]:
        """Name → value over one segment; (K, 4) `sums` are over it."""
        values, of_metrics, counts = {}, {}, {}
        for each, (loss_sum, weight_sum, left, count) in zip(read, sums.tolist(), strict=True):
            if each.name in self.valued:
                denominator = weight_sum if each.normalizer == "weights" else left
                values[f"loss/{each.name}"] = loss_sum / denominator if weight_sum > 0 else None
                counts[f"labels/{each.name}"] = int(count)
            for name, metric in metrics[each.name].items():
                of_metrics[f"{each.name}/{name}"] = metric.result() if count > 0 else None
        return values | of_metrics | counts

    def reset(self) -> None:
        """Forgets all batches."""
        for metrics in self.metrics.values():
            for own in metrics.values():
                for metric in own.values():
                    metric.metric.reset_state()


def prefix(by: str, value: int) -> str:
    """The beginning of the names of a segment's values in reports."""
    return f"{SEGMENT}{by}={value}/"


def build(by: str, splits: Mapping[str, Split], metrics: Metrics, losses: Sequence[NamedLoss]) -> Segments:
    """The segments of some splits, as `find` finds them, with copies of these metrics; in the strategy's scope."""
    part, of_splits = find(by, splits)
    values = sorted({value for own in of_splits.values() for value in own})
    valued = frozenset(loss.name for loss in losses if loss.over is None and loss.added_by is None)
    return Segments(by, part, of_splits, {value: copied(metrics) for value in values}, valued)


def copied(metrics: Metrics) -> dict[str, dict[str, LossMetric]]:
    """Metrics like these, with a state of their own."""
    return {loss: {name: metric.make() for name, metric in own.items()} for loss, own in metrics.items()}


def find(by: str, splits: Mapping[str, Split]) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Finds the segments of some splits; reads them once where they are not held in memory.

    Args:
      by: the name of a target or an input.
      splits: split → its examples.

    Returns:
      "targets" or "inputs", whichever has this name; split → the values that it holds, ascending.

    Raises:
      ConfigError: neither has it, it is no whole number for each example, or there are too many different ones.
    """
    found = {}
    for name, split in splits.items():
        part = _part(by, split)
        found[name] = tuple(sorted(_values(by, part, split)))
    count = len({value for values in found.values() for value in values})
    if not count or count > MOST_SEGMENTS:
        reason = f"has {count} different values in the splits that are evaluated; there may be 1 to {MOST_SEGMENTS}"
        raise ConfigError(_FIELD, by, reason)
    return part, found


def _part(by: str, split: Split) -> str:
    spec = split.spec
    inputs = spec["inputs"] if isinstance(spec["inputs"], Mapping) else {}
    part = "targets" if by in spec["targets"] else "inputs"
    if by not in spec["targets"] and by not in inputs:
        raise unknown(_FIELD, by, "target, input or feature", [*spec["targets"], *inputs])
    leaf = spec[part][by]
    if not (leaf.dtype.is_integer or leaf.dtype.is_bool) or leaf.shape.num_elements() != 1:
        reason = "must be a whole number, or True or False, for each example (the operations 'bins', 'classes' and "
        reason += f"'categories' make some), but is {leaf.dtype.name}{leaf.shape.as_list()}"
        raise ConfigError(_FIELD, by, reason)
    return part


def _values(by: str, part: str, split: Split) -> set[int]:
    if part == "targets":
        return {value for chunk in split.labels([by]) for value in _labelled(*chunk[by])}
    return {int(value) for values in _inputs(by, split) for value in np.unique(values)}


def _labelled(values: np.ndarray, weights: np.ndarray | None) -> Iterable[int]:
    return (int(value) for value in np.unique(values[splits_lib.labelled(values, weights)]))


def _inputs(by: str, split: Split) -> Iterable[np.ndarray]:
    if isinstance(split, InMemory):
        return [split.examples.inputs[by]]
    batches = split.evaluation(batch_size=_READ_AT_ONCE, context=tf.distribute.InputContext(1, 0, 1))
    return (batch["inputs"][by].numpy() for batch in batches)


def _labelled_only(weights: tf.Tensor | None, examples: tf.Tensor) -> tf.Tensor:
    """As `loss_sums.of_examples` where there are no values: the last is 1 for an example that has a label."""
    there = tf.ones([examples], tf.bool) if weights is None else labels.of_examples(weights)
    return tf.pad(tf.cast(there, tf.float64)[:, tf.newaxis], [[0, 0], [loss_sums.COLUMNS - 1, 0]])


def _worse(known: float | None, value: float | None, direction: str) -> float | None:
    if known is None or value is None:
        return value if known is None else known
    if math.isnan(known) or math.isnan(value):
        return math.nan
    return max(known, value) if direction == "down" else min(known, value)
