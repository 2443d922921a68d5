"""Losses of `compile` that read what paths name: entries of `loss` that are dictionaries with `loss` and `reads`."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.components import loss_functions, reading
from trainer.components import predictions as predictions_lib
from trainer.components.loss_functions import LossFunction
from trainer.components.losses import NamedLoss
from trainer.config import paths
from trainer.config.loss_settings import GLOBAL_BATCH, LossConfig
from trainer.config.paths import HEADS, INPUTS, LAYERS, TARGETS, Path
from trainer.keras_model import losses as losses_lib
from trainer.keras_model.outputs import Matching
from trainer.models import forward_pass

_READS = "reads"
_SETTINGS = ("reads", "over", "normalizer", "variables")


@dataclasses.dataclass(frozen=True)
class ReadingLoss:
    """One entry of `loss` with `reads`, checked.

    Attributes:
      name: its key.
      weight: of `loss_weights`.
      function: its function.
      normalizer: what a mean is taken over, as a `NamedLoss` has it.
      settings: what else it says, as in a configuration.
    """

    name: str
    weight: Any
    function: LossFunction
    normalizer: str
    settings: LossConfig

    @property
    def paths(self) -> dict[str, Path]:
        """Argument of the function → what it is given, as the user names it."""
        return {argument: paths.parse(text) for argument, text in self.settings.reads.items()}


class Parts(NamedTuple):
    """The arguments `loss` and `loss_weights` of `compile`, in two parts.

    Attributes:
      loss: what Keras takes: the losses of outputs; None where there are none.
      loss_weights: of those.
      reading: the losses with `reads`.
    """

    loss: Any
    loss_weights: Any
    reading: tuple[ReadingLoss, ...]


def split(loss: Any, loss_weights: Any) -> Parts:
    """The losses of outputs and those with `reads`; raises ConfigError for one of these that cannot be.

    Args:
      loss: as `compile` takes it.
      loss_weights: as `compile` takes them.
    """
    entries = {}
    if isinstance(loss, Mapping):
        entries = {name: each for name, each in loss.items() if isinstance(each, Mapping) and _READS in each}
    if not entries:
        return Parts(loss, loss_weights, ())
    weights: dict[str, Any] = {}
    if isinstance(loss_weights, Mapping):
        weights = {name: weight for name, weight in loss_weights.items() if name in entries}
        loss_weights = {name: weight for name, weight in loss_weights.items() if name not in entries}
    rest = {name: each for name, each in loss.items() if name not in entries}
    return Parts(
        rest or None,
        loss_weights or None,
        tuple(_checked(name, entry, weights.get(name)) for name, entry in entries.items()),
    )


def build(
    given: Sequence[ReadingLoss],
    matching: Matching,
    model: keras.Model,
    spec: tuple[Any, Any, Any],
    strategy: tf.distribute.Strategy,
) -> tuple[NamedLoss, ...]:
    """The losses, each with the places of a batch and of the model that its paths name.

    Args:
      given: the losses.
      matching: of outputs and targets.
      model: the model.
      spec: (inputs, targets, sample weights) of a replica's part of a batch.
      strategy: where they are computed.

    Raises:
      ConfigError: a path that names nothing, a name that is an output's, or a loss over a batch that is not together.
    """
    x, y, _ = spec
    places = {HEADS: matching.names_of_heads(), TARGETS: matching.names_of_targets(y), INPUTS: _inputs(model, x)}
    taken = [loss.name for loss in matching.losses]
    found = []
    for loss in given:
        field, own = f"loss.{loss.name}", Path(HEADS, loss.name)
        if loss.name in taken or (loss.name in places[HEADS] and own not in loss.paths.values()):
            raise ConfigError(field, ConfigError.ABSENT, "is the name of an output, but not of its loss; give another")
        over = loss.settings.over
        if over == GLOBAL_BATCH and strategy.num_replicas_in_sync > 1:
            allowed = "is for a single device in fit; use 'replica', or the command line"
            raise ConfigError(f"{field}.over", over, allowed)
        reads = {name: _resolved(path, places, f"{field}.reads.{name}") for name, path in loss.paths.items()}
        found.append(_named(loss, reads))
    with fields_as_given(found):
        forward_pass.check_layers(model, found)
    return tuple(found)


@contextlib.contextmanager
def fields_as_given(losses: Collection[NamedLoss]) -> Iterator[None]:
    """Names fields of losses with `reads` in errors as `compile` does: `losses.kl.over` is `loss.kl.over`."""
    names = [loss.name for loss in losses if loss.reads is not None]
    try:
        yield
    except ConfigError as error:
        kind, _, field = error.field.partition(".")
        if kind == "losses" and any(f"{field}.".startswith(f"{name}.") for name in names):
            raise ConfigError(f"loss.{field}", error.value, error.allowed) from error
        raise


def _checked(name: str, entry: Mapping[str, Any], weight: Any) -> ReadingLoss:
    field = f"loss.{name}"
    for key, value in entry.items():
        if key not in ("loss", *_SETTINGS):
            raise unknown(f"{field}.{key}", value, "key", ("loss", *_SETTINGS), name=str(key))
    loss = entry.get("loss")
    if loss is None:
        raise ConfigError(f"{field}.loss", ConfigError.ABSENT, "is missing and must be given")
    by_name = isinstance(loss, str | Mapping)
    if not by_name and not callable(loss):
        raise ConfigError(f"{field}.loss", loss, "must be a function, a keras.losses.Loss or the name of one")
    settings = {key: entry[key] for key in _SETTINGS if key in entry}
    settings["reads"] = dict(entry[_READS]) if isinstance(entry[_READS], Mapping) else entry[_READS]
    if settings["reads"] is None:
        raise ConfigError(f"{field}.reads", None, "must be a dictionary from arguments of the function to paths")
    settings["loss"] = loss if isinstance(loss, str) else dict(loss) if by_name else loss_functions.name_of(loss)
    config = schema.record(LossConfig)(settings, field)
    build_function = loss_functions.build if by_name else loss_functions.of_reading
    function = build_function(config.loss if by_name else loss, f"{field}.loss", config.reads, f"{field}.reads")
    reading.check_over(config.over, f"{field}.over", takes_derivative=function.takes_derivative)
    normalizer = config.normalizer if "normalizer" in entry else losses_lib.normalizer_of(loss)
    return ReadingLoss(name, 1.0 if weight is None else weight, function, normalizer, config)


def _inputs(model: keras.Model, x: Any) -> dict[str, str]:
    """The names that the inputs of a model may be called by → those by which losses find them."""
    own = list(predictions_lib.named_inputs(x))
    names = [] if isinstance(x, Mapping) else [each.name for each in getattr(model, "inputs", None) or ()]
    of_model = dict(zip(names, own, strict=True)) if len(names) == len(own) else {}
    return of_model | {name: name for name in own}


def _resolved(path: Path, places: Mapping[str, Mapping[str, str]], field: str) -> Path:
    """The path by the name that is used within; raises ConfigError where it names nothing."""
    if path.kind == LAYERS:
        return path
    names = places[path.kind]
    if path.name not in names:
        word = {HEADS: "output", TARGETS: "target", INPUTS: "input"}[path.kind]
        raise unknown(field, str(path), word, [str(Path(path.kind, name)) for name in names])
    return Path(path.kind, names[path.name])


def _named(loss: ReadingLoss, reads: Mapping[str, Path]) -> NamedLoss:
    variables = loss.settings.variables
    return losses_lib.named(
        loss.function,
        name=loss.name,
        head=None,
        target=None,
        normalizer=loss.normalizer,
        over=loss.settings.over,
        variables=None if variables is None else tuple(variables),
        reads=reads,
    )
