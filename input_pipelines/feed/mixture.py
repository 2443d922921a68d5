"""Several sources in every batch, each with its quota; an example has labels for its own source's targets alone."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.feed import splits
from input_pipelines.feed.splits import Split
from trainer.common.errors import ConfigError

_BETWEEN_SEEDS = 1_000_003  # keeps the orders of two sources apart


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A split made of several (see `splits.Split`).

    Of every Σ quotas examples of a batch, each source gives as many as its quota, spread evenly, so that it runs
    through its own epochs at its own pace. An epoch of the mixture is as many examples as all sources have.

    Attributes:
      parts: source name → its split.
      quotas: source name → its share.
    """

    parts: Mapping[str, Split]
    quotas: Mapping[str, int]

    @functools.cached_property
    def spec(self) -> splits.Structure:
        """See `splits.Split`: every source's targets, all of them with weights."""
        specs = [part.spec for part in self.parts.values()]
        targets = {name: leaf for spec in specs for name, leaf in spec["targets"].items()}
        weights = {name: tf.TensorSpec((), tf.as_dtype(keras.config.floatx())) for name in targets}
        for spec in specs:
            weights |= spec.get("weights", {})
        return {"inputs": specs[0]["inputs"], "targets": targets, "weights": weights}

    @property
    def categories(self) -> Mapping[str, tuple[int, ...]]:
        """See `splits.Split`."""
        return next(iter(self.parts.values())).categories

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    @property
    def largest_batch(self) -> int:
        """See `splits.Split`."""
        total = sum(self.quotas.values())
        return min(part.largest_batch // self.quotas[name] * total for name, part in self.parts.items())

    def training(self, *, batch_size: int, seed: int, first_step: int, ends: Sequence[int]) -> tf.data.Dataset:
        """See `splits.Split`."""
        pattern = self._pattern()
        datasets = []
        for number, (name, part) in enumerate(self.parts.items()):
            first, last = (_before(pattern, number, end) for end in (ends[0], ends[-1]))
            if first == last:
                raise ConfigError("batch_size", batch_size, f"leaves a worker without an example of source {name!r}")
            own = part.training(
                batch_size=_before(pattern, number, batch_size),
                seed=_own_seed(seed, number),
                first_step=first_step,
                ends=[first, last],
            )
            datasets.append(own.map(functools.partial(self._completed, name)))
        order = tf.constant(_order(pattern, ends[0], ends[-1]))

        def mixed(*batches: splits.Structure) -> splits.Structure:
            return tf.nest.map_structure(lambda *values: tf.gather(tf.concat(values, axis=0), order), *batches)

        return splits.cut(tf.data.Dataset.zip(tuple(datasets)).map(mixed), ends).prefetch(2)

    def evaluation(self, *, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """See `splits.Split`: one source after another."""
        datasets = [
            part.evaluation(batch_size=batch_size, context=context).map(functools.partial(self._completed, name))
            for name, part in self.parts.items()
        ]
        result = datasets[0]
        for dataset in datasets[1:]:
            result = result.concatenate(dataset)
        return result

    def evaluation_steps(self, batch_size: int, replicas: int) -> int:
        """See `splits.Split`."""
        return sum(part.evaluation_steps(batch_size, replicas) for part in self.parts.values())

    def first(self, count: int) -> splits.Structure:
        """See `splits.Split`: as many of each source."""
        firsts = [self._completed(name, part.first(count)) for name, part in self.parts.items()]
        return tf.nest.map_structure(lambda *values: np.concatenate(values), *firsts)

    def labels(self, targets: Sequence[str]) -> Iterator[splits.Labels]:
        """See `splits.Split`: of one source after another, each with those targets that it has."""
        for part in self.parts.values():
            if own := [target for target in targets if target in part.spec["targets"]]:
                yield from part.labels(own)

    def check_classes(self, target: str, classes: int, ignored: int | None = None) -> "Mixture":
        """See `splits.Split`."""
        checked = {
            name: part.check_classes(target, classes, ignored) if target in part.spec["targets"] else part
            for name, part in self.parts.items()
        }
        return dataclasses.replace(self, parts=checked)

    def reason(self, step: int, batch_size: int, seed: int) -> str | None:
        """See `splits.Split`."""
        pattern = self._pattern()
        for number, part in enumerate(self.parts.values()):
            found = part.reason(step, _before(pattern, number, batch_size), _own_seed(seed, number))
            if found is not None:
                return found
        return None

    def _pattern(self) -> np.ndarray:
        """The source of each of Σ quotas examples, every source as evenly spread as its quota allows."""
        quotas = [self.quotas[name] for name in self.parts]
        due = [((turn + 0.5) / quota, number) for number, quota in enumerate(quotas) for turn in range(quota)]
        return np.array([number for _, number in sorted(due)])

    def _completed(self, name: str, batch: splits.Structure) -> splits.Structure:
        """A source's batch with zeros of weight 0 for the targets of the others."""
        own, spec = self.parts[name].spec, self.spec
        count = tf.shape(tf.nest.flatten(batch["inputs"])[0])[0]

        def filled(leaf: tf.TensorSpec, value: float) -> tf.Tensor:
            return tf.fill(
                tf.concat([[count], tf.constant(leaf.shape.as_list(), tf.int32)], 0), tf.cast(value, leaf.dtype)
            )

        targets, weights = {}, {}
        for target, leaf in spec["targets"].items():
            there = target in own["targets"]
            targets[target] = batch["targets"][target] if there else filled(leaf, 0)
            given = batch.get("weights", {}).get(target)
            weights[target] = filled(spec["weights"][target], float(there)) if given is None else given
        return {"inputs": batch["inputs"], "targets": targets, "weights": weights}


def check(parts: Mapping[str, Split], field: str) -> None:
    """Raises ConfigError where the splits of several sources do not fit together."""
    specs = {name: part.spec for name, part in parts.items()}
    first_name, first = next(iter(specs.items()))
    for number, (name, spec) in enumerate(specs.items()):
        _check_same(first["inputs"], spec["inputs"], f"{field}.{name}.inputs", first_name)
        if parts[name].categories != parts[first_name].categories:
            raise ConfigError(
                f"{field}.{name}.inputs", ConfigError.ABSENT, f"must have the categories of source {first_name!r}"
            )
        for other, other_spec in list(specs.items())[:number]:
            for target in spec["targets"].keys() & other_spec["targets"].keys():
                _check_same(
                    other_spec["targets"][target], spec["targets"][target], f"{field}.{name}.targets.{target}", other
                )
                own, others = (each.get("weights", {}).get(target) for each in (spec, other_spec))
                if own is not None and others is not None:
                    _check_same(others, own, f"{field}.{name}.targets.{target}.weight", other)


def _check_same(expected: Any, given: Any, field: str, name: str) -> None:
    if expected != given:
        shown = {name: f"{leaf.dtype.name}{list(leaf.shape)}" for name, leaf in splits.per_example({"": given})}
        raise ConfigError(field, ", ".join(shown.values()), f"must have the shape and type of source {name!r}")


def _own_seed(seed: int, number: int) -> int:
    return (seed + number * _BETWEEN_SEEDS) % 2**62


def _before(pattern: np.ndarray, number: int, position: int) -> int:
    """Counts the examples of source `number` among the first `position` of a batch."""
    rounds, rest = divmod(position, len(pattern))
    return int(rounds * np.sum(pattern == number) + np.sum(pattern[:rest] == number))


def _order(pattern: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Returns, for each position from start to stop, its example's index once the examples are sorted by source."""
    sources = pattern[np.arange(start, stop) % len(pattern)]
    places = np.empty(stop - start, np.int64)
    places[np.argsort(sources, kind="stable")] = np.arange(stop - start)
    return places
