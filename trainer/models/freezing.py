"""Variables of a model that stay as they are (`freeze`)."""

from collections.abc import Collection, Mapping, Sequence

import keras

from trainer.common import patterns
from trainer.common.errors import ConfigError, listed
from trainer.models.names import variables_by_name


def freeze(model: keras.Model, chosen: Sequence[str], field: str = "freeze") -> None:
    """Freezes the variables whose names match.

    A layer of which all variables match is frozen as a whole, as by `layer.trainable = False`: batch normalization then
    takes its moving statistics and leaves them as they are. Of other layers the matching weights alone are frozen.

    Args:
      model: the model; it is changed.
      chosen: patterns of names, as `variables_by_name` gives them.
      field: the configuration's key, for errors.

    Raises:
      ConfigError: a pattern matches no variable; or it matches one that a layer changes by itself, such as a moving
        statistic, and not the layer's other variables.
    """
    if not chosen:
        return
    named = variables_by_name(model)
    frozen: dict[int, str] = {}
    for index, pattern in enumerate(chosen):
        found = patterns.matching(named, pattern)
        if not found:
            raise ConfigError(f"{field}.{index}", pattern, f"matches none of the variables: {listed(named, pattern)}")
        frozen |= {id(named[name]): name for name in found}
    _freeze(model, frozen, {id(variable) for variable in named.values()}, field)


def _freeze(layer: keras.layers.Layer, frozen: Mapping[int, str], named: Collection[int], field: str) -> None:
    own = [id(variable) for variable in layer.variables if id(variable) in named]  # without states of random layers
    if not any(each in frozen for each in own):
        return
    if all(each in frozen for each in own):
        layer.trainable = False
        return
    for variable in layer._non_trainable_variables:
        if id(variable) in frozen:
            reason = "is changed by its layer itself; it stands where the patterns match all variables of the layer"
            raise ConfigError(field, frozen[id(variable)], reason)
    for variable in layer._trainable_variables:
        if id(variable) in frozen:
            variable.trainable = False
    for part in layer._flatten_layers(include_self=False, recursive=False):
        _freeze(part, frozen, named, field)
