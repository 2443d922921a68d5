"""From a source's features to inputs, targets and weights, with a mask for missing labels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines import examples
from input_pipelines.configuration import SourceConfig, TargetConfig
from input_pipelines.preparation import building, fitting
from input_pipelines.preparation.chain import Batch, Chain, as_wide, real_numbers
from input_pipelines.preparation.fitting import Statistics
from input_pipelines.sources.source import Source
from trainer.common import import_paths
from trainer.common.errors import ConfigError, reason_of

_AS_IT_IS = TargetConfig(feature=None, prepare=[], missing=None, weight=None)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """All inputs and targets of a source.

    Attributes:
      inputs: input name → how it is made.
      targets: target name → how it is made.
      statistics: the configuration's key of an input or target → what each of its operations learned.
      source: feature → specification of one example, the same in every split.
    """

    inputs: Mapping[str, Chain]
    targets: Mapping[str, Chain]
    statistics: Statistics
    source: Mapping[str, tf.TensorSpec]

    @property
    def features(self) -> list[str]:
        """The features that it needs."""
        chains = [*self.inputs.values(), *self.targets.values()]
        names = [name for chain in chains for name in chain.features]
        return list(dict.fromkeys([*names, *(chain.weight for chain in chains if chain.weight is not None)]))

    def configured(self, config: SourceConfig) -> "Preparation":
        """The same without targets that the configuration of the source does not name."""
        targets = {name: chain for name, chain in self.targets.items() if name in (config.targets or {})}
        return dataclasses.replace(self, targets=targets)

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """`inputs` (the tensor itself where there is but one), `targets` and `weights` of a batch of features.

        Every target of real numbers, or with a value that means "missing", has weights: 0 where there is no label.
        """
        return self._prepared(self._joined(batch))

    def of_arrays(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The same of features as arrays."""
        return self._compiled(self._joined(batch))

    def _joined(self, batch: Mapping[str, np.ndarray | tf.Tensor]) -> dict[str, tf.Tensor]:
        """The features of each input and target side by side, and the weights; each by its configuration's key.

        Within a graph thousands of columns would be thousands of nodes, which take long to make and to run.
        """
        chains = [*self.inputs.values(), *self.targets.values()]
        joined = {chain.field: chain.values(batch) for chain in chains}
        weighted = [chain for chain in chains if chain.weight is not None]
        return joined | {_weight_key(chain): real_numbers(batch[chain.weight]) for chain in weighted}

    def _prepared(self, joined: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        inputs = {name: chain.prepared(joined[chain.field], self._of(chain))[0] for name, chain in self.inputs.items()}
        targets, weights = {}, {}
        for name, chain in self.targets.items():
            values = joined[chain.field]
            present = chain.present(values)
            if present is not None and values.dtype != tf.string:
                values = tf.where(present, values, tf.zeros((), values.dtype))
            target, present = chain.prepared(values, self._of(chain), present)
            if present is not None:
                # What stands for a missing label need not be among the classes.
                target = tf.where(as_wide(present, target), target, tf.zeros((), target.dtype))
                weights[name] = tf.cast(present, keras.config.floatx())
            if chain.weight is not None:
                weights[name] = _weighed(weights.get(name), joined[_weight_key(chain)])
            targets[name] = target
        parts = {"inputs": next(iter(inputs.values())) if len(inputs) == 1 else inputs, "targets": targets}
        return parts | ({"weights": weights} if weights else {})

    @functools.cached_property
    def _compiled(self) -> Any:
        """`_prepared` as a graph for batches of any size."""
        joined = self._joined(self._empty(self.features))
        batches = {key: tf.TensorSpec((None, *values.shape[1:]), values.dtype) for key, values in joined.items()}
        return tf.function(self._prepared, autograph=False).get_concrete_function(batches)

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """The structure that it makes of one example, as `tf.TensorSpec`s."""
        outputs = self._compiled.structured_outputs
        return tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape[1:], leaf.dtype), outputs)

    def shapes(self, target: str) -> list[tuple[int, ...]]:
        """The shapes of one example of a target before its first operation and after each one."""
        chain, found = self.targets[target], []

        def traced(values: tf.Tensor) -> tf.Tensor:
            found.extend(tuple(each.shape[1:]) for each, _ in chain.steps(values, self._of(chain)))
            return values

        values = chain.values(self._empty(chain.features))
        spec = tf.TensorSpec((None, *values.shape[1:]), values.dtype)
        tf.function(traced, autograph=False).get_concrete_function(spec)
        return found

    def categories(self) -> dict[str, tuple[int, ...]]:
        """Input name → the number of categories of each column, for inputs that are categorical in the end."""
        found = {}
        for name, chain in self.inputs.items():
            last = chain.operations[-1] if chain.operations else None
            if hasattr(last, "categories"):
                found[name] = last.categories(self._of(chain)[-1], len(chain.features))
        return found

    def tables(self) -> list[Any]:
        """The lookup tables that its graph reads: who exports the graph must hold them."""
        steps = (
            (operation, learned)
            for chain in (*self.inputs.values(), *self.targets.values())
            for operation, learned in zip(chain.operations, self._of(chain), strict=True)
        )
        return [table for operation, own in steps if hasattr(operation, "tables") for table in operation.tables(own)]

    def _empty(self, features: Sequence[str]) -> dict[str, np.ndarray]:
        """No examples of these features."""
        specs = {name: self.source[name] for name in features}
        return {name: np.zeros((0, *leaf.shape), leaf.dtype.as_numpy_dtype) for name, leaf in specs.items()}

    def of_targets(self, names: Sequence[str]) -> "Preparation":
        """The preparation of these targets alone."""
        return dataclasses.replace(self, inputs={}, targets={name: self.targets[name] for name in names})

    def _of(self, chain: Chain) -> list[dict[str, Any]]:
        return self.statistics[chain.field]


def build(
    parts: Mapping[str, tuple[SourceConfig, Source]],
    saved: Mapping[str, Statistics] | None = None,
    also: str | None = None,
) -> dict[str, Preparation]:
    """The preparation of every source, with what is learned from their training splits.

    Args:
      parts: the configuration's key of a source → its configuration, its training split.
      saved: key of a source → what an earlier process of the same run learned; None: learn it now.
      also: a feature that becomes a target of its name, where a source has it and neither a target nor an input of that
        name; what inputs are made of does not change by that.

    Raises:
      ConfigError: a feature or an operation that does not exist or does not fit.
    """
    made, chains = {}, {}
    for field, (config, train) in parts.items():
        targets = building.targets(config, field, train)
        inputs = building.inputs(config, field, train, targets)
        if also in train.features and also not in {*targets, *inputs}:
            targets |= building.targets(dataclasses.replace(config, targets={also: _AS_IT_IS}), field, train)
        made[field] = inputs, targets
        chains[field] = [*inputs.values(), *targets.values()]
        _refuse_empty(chains[field], train)
    known = saved or {}
    is_known = all(set(known.get(field, ())) == {chain.field for chain in own} for field, own in chains.items())
    if not is_known:
        known = fitting.learn({field: (own, parts[field][1]) for field, own in chains.items()})
    built = {
        field: Preparation(inputs, targets, known[field], parts[field][1].features)
        for field, (inputs, targets) in made.items()
    }
    if is_known:
        for field, preparation in built.items():
            _check_known(preparation, field)
    return built


def _refuse_empty(chains: Sequence[Chain], train: Source) -> None:
    for chain in chains:
        for name in chain.features:
            if train.features[name].shape.num_elements() == 0:
                raise ConfigError(chain.field, name, examples.EMPTY)


def _check_known(preparation: Preparation, field: str) -> None:
    """Raises ConfigError where what an earlier process learned does not fit the operations."""
    try:
        preparation.spec  # noqa: B018 (traces it, as it is about to be anyway)
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        reason = f"what the run's data.json holds of it does not fit: {type(error).__name__}: {reason_of(error)}"
        raise ConfigError(field, ConfigError.ABSENT, reason) from error


def _weight_key(chain: Chain) -> str:
    return f"{chain.field}.weight"


def _weighed(present: tf.Tensor | None, weights: tf.Tensor) -> tf.Tensor:
    weights = tf.cast(weights, keras.config.floatx())
    if present is None:
        return weights
    return present * tf.reshape(weights, [-1] + [1] * (present.shape.rank - 1))
