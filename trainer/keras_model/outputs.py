"""Keras' own rules for which output, target and sample weight a loss of `compile` reads, whatever their structures.

`CompileLoss` matches them; here each of its losses records what it is given in place of computing anything. It only
looks at structures, so that the tensors may be of one replica, of all of them, or specifications.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.trainers.compile_utils import CompileLoss

from trainer.common.errors import ConfigError, with_notes
from trainer.components import predictions

MISMATCH = (KeyError, ValueError, TypeError, IndexError, AttributeError)  # Keras' errors where structures do not match


class CompiledLoss(NamedTuple):
    """One loss of `compile`.

    Attributes:
      name: unique; as Keras names it where that is.
      function: the loss.
      weight: of `loss_weights`.
      head: name of the output that it reads, and of the target that belongs to it.
    """

    name: str
    function: keras.losses.Loss
    weight: float
    head: str


class Matching:
    """The output, the target and the weights that every loss reads.

    Args:
      loss: as `compile` takes it; None: there is none.
      loss_weights: as `compile` takes them.
      output_names: the model's, where it has some.
      y_pred: `tf.TensorSpec`s of what the model returns, each an object of its own.
      y: `tf.TensorSpec`s of the targets; None where there are none.
      further: names of targets that losses with `reads` look at; those that no output has stand in a batch beside them.

    Attributes:
      losses: the losses.
      outputs: name of an output → its specification.
      head_of: id of each specification in `y_pred` → name of the output.

    Raises:
      ConfigError: Keras cannot match them, or a loss reads several outputs at once.
    """

    def __init__(
        self,
        loss: Any,
        loss_weights: Any,
        output_names: Sequence[str] | None,
        y_pred: Any,
        y: Any,
        further: Sequence[str] = (),
    ):
        self._loss, self._y_pred, self._further = loss, y_pred, further
        loss, loss_weights = _filled(loss, loss_weights, y_pred, output_names)
        self.outputs = by_head = predictions.by_head(y_pred)
        self.head_of = {id(spec): head for head, spec in by_head.items()}
        names = list(output_names or ())
        self._names = dict(zip(by_head, names, strict=True)) if len(names) == len(by_head) else {}
        self._recorder = None if loss is None else _Recorder(loss, loss_weights, output_names)
        read = self._read(y, None)
        for each in read:
            if id(each.prediction) not in self.head_of:
                raise ConfigError("loss", loss, "gives one loss several outputs together; give each output its own")
        given = [] if loss is None else self._recorder.given
        self._heads = [self.head_of[id(each.prediction)] for each in read]
        unique = _unique([name for *_, name in given])
        self.losses = tuple(
            CompiledLoss(name, function, 1.0 if weight is None else weight, head)
            for name, (function, weight, _), head in zip(unique, given, self._heads, strict=True)
        )

    def batch(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """`inputs`, and by head the `targets` and, where there are any, the `weights` that belong to it.

        Outputs without a loss are matched by name or place, where they have a target.

        Raises:
          ConfigError: Keras cannot match targets or weights to the outputs.
        """
        targets, weights = self._by_name(y), self._by_name(sample_weight)
        for head, read in zip(self._heads, self._read(y, sample_weight), strict=True):
            targets[head], weights[head] = read.target, read.weight
        if sample_weight is not None and not keras.tree.is_nested(sample_weight):
            weights = dict.fromkeys(targets, sample_weight) | weights
        weights = {head: weight for head, weight in weights.items() if weight is not None}
        return {"inputs": x, "targets": targets} | ({"weights": weights} if weights else {})

    def names_of_heads(self) -> dict[str, str]:
        """The names that an output may be called by, its own and that in the model → its own."""
        return {name: head for head, name in self._names.items()} | {head: head for head in self.outputs}

    def names_of_targets(self, y: Any) -> dict[str, str]:
        """The names that a target may be called by → that in a batch: those of its output, or of a further one."""
        there = self._by_name(y)
        return {name: head for name, head in self.names_of_heads().items() if head in there} | {
            name: name for name in there
        }

    def _by_name(self, given: Any) -> dict[str, Any]:
        """Targets or weights of outputs by the names of these, or by theirs in the model; of a single one for all.

        Of a dictionary those of `further` names are there, too.
        """
        if given is None:
            return {}
        if not keras.tree.is_nested(given):
            return dict.fromkeys(self.head_of.values(), given)
        found = predictions.by_head(given)
        keys = {head: head if head in found else self._names.get(head) for head in self.head_of.values()}
        keys |= {name: name for name in self._further if name not in self.names_of_heads()}
        return {head: found[key] for head, key in keys.items() if found.get(key) is not None}

    def _read(self, y: Any, sample_weight: Any) -> list["_Read"]:
        if self._recorder is None:
            return []
        if y is None:
            raise ConfigError("y", ConfigError.ABSENT, "there are losses, but the data hold no targets: give (x, y)")
        try:
            read = self._recorder.read(self._of_losses(y), self._y_pred, _without_gaps(sample_weight, self._y_pred))
        except MISMATCH as error:
            reason = f"cannot be matched to outputs and targets: {with_notes(error)}"
            raise ConfigError("loss", self._loss, reason) from error
        if any(isinstance(each.target, str) for each in read):  # the name of an output, by Keras, in place of a target
            raise ConfigError("y", [*y], f"must hold targets by the names of outputs: {', '.join(self.outputs)}")
        return read

    def _of_losses(self, y: Any) -> Any:
        """The targets without those that only losses with `reads` look at, which Keras could not match."""
        if not (self._further and isinstance(self._loss, Mapping) and isinstance(y, Mapping)):
            return y
        found = {name: y[name] for name, each in self._loss.items() if each is not None and name in y}
        if isinstance(self._y_pred, Mapping):
            return found
        if keras.tree.is_nested(self._y_pred):
            return {name: found.get(name) for name in self._names.values()}
        return next(iter(found.values()), y)


class _Read(NamedTuple):
    target: Any
    prediction: Any
    weight: Any


class _Recorder(CompileLoss):
    """Keras' `CompileLoss`, whose losses record what they are given."""

    def __init__(self, loss: Any, loss_weights: Any, output_names: Sequence[str] | None):
        super().__init__(loss, loss_weights, output_names=output_names)
        self.given: list[tuple[keras.losses.Loss, float | None, str]] = []
        self._read: list[_Read] = []

    @property
    def metrics(self) -> list[None]:
        """Nothing that `call` would update, one for each loss."""
        return [None] * len(self._flat_losses or ())

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Builds the flat list of losses, then puts recorders in their places."""
        super().build(y_true, y_pred)
        self.given = [(flat.loss, flat.loss_weights, flat.name) for flat in self._flat_losses]
        self._flat_losses = [flat._replace(loss=self._record, loss_weights=None) for flat in self._flat_losses]

    def read(self, y_true: Any, y_pred: Any, sample_weight: Any) -> list[_Read]:
        """Returns for each loss what it would be called with."""
        self._read = []
        self.call(y_true, y_pred, sample_weight)
        return self._read

    def _record(self, target: Any, prediction: Any, weight: Any) -> float:
        self._read.append(_Read(target, prediction, weight))
        return 0.0


def _filled(loss: Any, loss_weights: Any, y_pred: Any, output_names: Sequence[str] | None) -> tuple[Any, Any]:
    """Losses and weights by output with an entry for every output that Keras asks for: no loss, and the weight 1."""
    names = list(y_pred) if isinstance(y_pred, Mapping) else list(output_names or ())
    if isinstance(loss_weights, Mapping) and not keras.tree.is_nested(loss) and loss is not None:
        loss = dict.fromkeys(names, loss)
    if isinstance(loss, Mapping) and not isinstance(y_pred, Mapping) and set(loss) < set(names):
        loss = dict.fromkeys(names) | dict(loss)
    if isinstance(loss, Mapping) and isinstance(loss_weights, Mapping):
        loss_weights = dict.fromkeys(loss, 1.0) | dict(loss_weights)
    return loss, loss_weights


def specs_of(structure: Any) -> Any:
    """`tf.TensorSpec`s of tensors or symbolic ones, each an object of its own."""
    return keras.tree.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), structure)


def _without_gaps(sample_weight: Any, y_pred: Any) -> Any:
    """Weights by output, None for outputs that have none."""
    if isinstance(sample_weight, Mapping) and isinstance(y_pred, Mapping):
        return dict.fromkeys(y_pred) | dict(sample_weight)
    return sample_weight


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    found: list[str] = []
    for name in names:
        candidates = (name, *(f"{name}_{count}" for count in range(1, len(names))))
        found.append(next(each for each in candidates if each not in found))
    return found
