"""Objects of Python in a configuration: each becomes a plain value, by which a run's files name it.

An object of Keras is written as its class with the arguments that are not its defaults. Anything else that can be
called becomes the import path `object:<name>`, which leads to it for as long as `import_paths.objects` says so.
"""

import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import ml_collections
import numpy as np
from keras.src.losses.losses import LossFunctionWrapper

from input_pipelines.configuration import TRAIN
from trainer.api import arrays
from trainer.common import import_paths
from trainer.common.errors import ConfigError
from trainer.components import keras_objects
from trainer.config import loading

_OF_KERAS = (
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.layers.Layer,
)
# The trainer's own to say, or different each time the same code runs.
_LEFT_OUT = ("name", "dtype", "reduction", "fn", "trainable")
_WRAPPERS = (LossFunctionWrapper, keras.metrics.MeanMetricWrapper)
_BY_NAME = ("model", "dataset", "combine")  # a function here stands for `{"name": function}`
_NAMES_OF_LAYERS = ("name", "registered_name", "inbound_nodes", "input_layers", "output_layers")


def take_out(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Callable]]:
    """Returns the tree with plain values only, and what the import paths `object:<name>` in it mean, by name.

    Args:
      tree: a configuration as a nested dictionary or ConfigDict, in which any value may be an object.

    Raises:
      ConfigError: an object of a kind that no setting takes.
    """
    found = _Objects()
    tree = {key: tree[key] for key in getattr(tree, "_fields", tree)}  # a ConfigDict iterates alphabetically
    dataset = tree.get("dataset")
    if isinstance(dataset, Mapping | ml_collections.ConfigDict) and TRAIN in dataset:
        settings, load = arrays.of_splits(dict(dataset.items()))
        tree["dataset"] = settings | {"name": found.path(load, "arrays")}
    if isinstance(tree.get("combine"), str):
        tree["combine"] = {"name": tree["combine"]}
    return loading.plain(tree, found.plain), found.named


class _Objects:
    """The objects of a configuration so far.

    Attributes:
      named: name → what `object:<name>` leads to.
    """

    def __init__(self) -> None:
        self.named: dict[str, Callable] = {}
        self._paths: dict[int, str] = {}

    def plain(self, value: Any, field: str) -> Any:
        """The plain value for an object at a dotted field."""
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, keras.Model):
            named = self.path(_copies(value), f"{keras_objects.snake(type(value).__name__)}_{_digest(value)}", value)
        elif isinstance(value, _OF_KERAS):
            return self._of_keras(value, field)
        elif callable(value):
            named = self._callable(value)
        else:
            kinds = "a function, class, model, optimizer, loss or metric; arrays are for dataset.train and the like"
            raise ConfigError(field, type(value).__name__, f"must be a plain value or {kinds}")
        return {"name": named} if field in _BY_NAME else named

    def path(self, target: Callable, name: str, owner: Any = None) -> str:
        """The import path of something to call; `owner` is the object for which it stands, if another."""
        key = id(target if owner is None else owner)
        if key not in self._paths:
            name = re.sub(r"\W+", "_", name).strip("_")
            count = 1 + sum(re.fullmatch(rf"{name}(_\d+)?", other) is not None for other in self.named)
            name = name if count == 1 else f"{name}_{count}"
            self.named[name] = target
            self._paths[key] = f"{import_paths.OBJECT}:{name}"
        return self._paths[key]

    def _callable(self, value: Callable) -> str:
        if getattr(value, "__module__", None) and value.__module__.startswith("keras."):
            return value.__name__
        return self.path(value, keras_objects.name_of(value))

    def _of_keras(self, value: Any, field: str) -> dict[str, Any]:
        """An object of Keras, or of a class derived from one of Keras', as a class with arguments."""
        if type(value) in _WRAPPERS:
            is_loss = isinstance(value, keras.losses.Loss)
            function, given = (value.fn if is_loss else value._fn), dict(value._fn_kwargs)
        else:
            function, given = type(value), _arguments(value, field)
            rate = getattr(value, "_learning_rate", None)
            if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
                given["learning_rate"] = self._of_keras(rate, f"{field}.learning_rate")
        key = "layer" if isinstance(value, keras.layers.Layer) else "name"
        shown = {"as": value.name} if isinstance(value, keras.metrics.Metric) else {}
        return {key: self._callable(function), **loading.plain(given, self.plain, field), **shown}


def _arguments(value: Any, field: str) -> dict[str, Any]:
    """The arguments of an object of Keras that are not its class's defaults.

    Raises:
      ConfigError: the object does not say one of them, so that a run could not save it.
    """
    config = {**vars(value), **getattr(value, "_fn_kwargs", {}), **value.get_config()}
    given = {}
    for key, parameter in inspect.signature(type(value)).parameters.items():
        if key in _LEFT_OUT or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        if key not in config:
            if type(value).__module__.startswith("keras."):  # which leaves out what is as it is by default
                continue
            reason = f"its get_config() must give the argument {key!r}, by which a run saves it"
            raise ConfigError(field, type(value).__name__, reason)
        if config[key] != parameter.default and not _is_called(config[key], parameter.default):
            given[key] = _without_module(config[key])
    if isinstance(given.get("learning_rate"), float):  # Keras holds it in float32, of which this is the shortest text
        given["learning_rate"] = float(str(np.float32(given["learning_rate"])))
    return given


def _is_called(argument: Any, default: Any) -> bool:
    """True for the form in which Keras writes an initializer, say, that its default names."""
    if not isinstance(argument, dict) or not isinstance(default, str):
        return False
    return keras_objects.snake(str(argument.get("class_name"))) == default


def _without_module(argument: Any) -> Any:
    """The form in which Keras writes an initializer of its own, say, in as few words as it reads."""
    if not isinstance(argument, dict) or not str(argument.get("module")).startswith("keras."):
        return argument
    return {key: argument[key] for key in ("class_name", "config")}


def _copies(model: keras.Model) -> Callable[[], keras.Model]:
    """A function that makes models with the present values of a model, which stays as it is."""
    values = model.get_weights()

    def build() -> keras.Model:
        copy = keras.models.clone_model(model)
        copy.set_weights(values)
        return copy

    return build


def _digest(model: keras.Model) -> str:
    """Eight hexadecimal digits of what a model's layers are, whatever they are called and whatever values they hold."""
    layers = [[type(layer).__name__, _without_names(layer.get_config())] for layer in model.layers]
    shapes = [[*variable.shape, str(variable.dtype)] for variable in model.variables]
    return hashlib.sha256(json.dumps([layers, shapes], default=str, sort_keys=True).encode()).hexdigest()[:8]


def _without_names(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _without_names(value) for key, value in config.items() if key not in _NAMES_OF_LAYERS}
    return [_without_names(value) for value in config] if isinstance(config, list | tuple) else config
