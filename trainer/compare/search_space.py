"""The values that tuning tries for a configuration, and the configuration with some of them. Needs no TensorFlow.

Every method is tuned over the learning rate, and over the options for which it declares a range (`combine/methods/`).
Fixed weights are the option of `weighted` and `independent`: the losses' relative weights, since their sum is the
learning rate's to decide.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.combine import registry
from trainer.combine.entry import Between, OneOf, Search
from trainer.combine.registry import METHODS
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.config import loading, settings
from trainer.config.settings import Config

LEARNING_RATE = "learning_rate"
_FACTORS, _ALL = "learning_rate_factors", "*"
_FACTOR = Between(0.1, 10.0, log=True)
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One number or choice that is tuned.

    Attributes:
      search: the values that are tried.
      default: the configuration's own, which is one of them.
    """

    search: Search
    default: Any


def of(config: Config) -> dict[str, Parameter]:
    """Name → what is tuned of a configuration with its method.

    `learning_rate` is a factor of all learning rates, `losses.<name>.weight` a factor of this weight before all are
    scaled to the sum that they had; `combine.<method>.<option>` is the option. A range is widened to hold the
    configuration's own value; where a logarithmic one cannot, the option keeps that value.
    """
    found = {LEARNING_RATE: Parameter(_FACTOR, 1.0)}
    if _is_weighted(config):
        found |= {_weight(name): Parameter(_FACTOR, 1.0) for name in _weights(config)}
    return found | _options(config)


def first(space: Mapping[str, Parameter], count: int) -> list[dict[str, Any]]:
    """Returns the values of the first trials, before there is anything to learn from.

    First the configuration's own. The others are spread: each lies in a part of its own of every range, in an order
    that differs between parameters (a Latin hypercube). Which ones of the learning rate is the same for every method.
    """
    parts = 2 * (count // 2)  # an even number, since in the middle of most ranges is the configuration's own value
    random = np.random.default_rng(0)
    orders = {name: random.permutation(parts) for name in space}
    spread = [
        {name: _at(each.search, (orders[name][index] + 0.5) / parts) for name, each in space.items()}
        for index in range(count - 1)
    ]
    return [{name: each.default for name, each in space.items()}, *spread]


def changes(config: Config, values: Values) -> dict[str, Any]:
    """Returns key of the configuration → its value, for all keys that values change."""
    changed: dict[str, Any] = {}
    if (factor := values.get(LEARNING_RATE, 1.0)) != 1:
        # After the patterns that are there, of which the first that matches counts.
        before = {pattern: rounded(each * factor) for pattern, each in config.learning_rate_factors.items()}
        changed[_FACTORS] = before if _ALL in before else before | {_ALL: factor}
    weights = _weights(config)
    factors = {name: values.get(_weight(name), 1.0) for name in weights}
    if any(factor != 1 for factor in factors.values()):
        scale = math.fsum(weights.values()) / math.fsum(weights[name] * factors[name] for name in weights)
        scaled = {name: rounded(weights[name] * factors[name] * scale) for name in weights}
        changed |= {_weight(name): scaled[name] for name in weights if scaled[name] != rounded(weights[name])}
    own = _own_options(config)
    return changed | {name: value for name, value in values.items() if name in own and value != own[name]}


def rounded(number: float) -> float:
    """Returns a number of four digits, which a command line can repeat."""
    return float(f"{number:.4g}")


def applied(config: Config, values: Values) -> Config:
    """Returns the configuration with these values; raises ConfigError where other settings refuse one."""
    tree = schema.as_dict(config)
    for key, value in changes(config, values).items():
        loading.set_value(tree, key, value, key, value)
    return loading.resolve(tree)


def _options(config: Config) -> dict[str, Parameter]:
    """The options of the method that have a range, without the choices that other settings refuse."""
    found = {}
    for (name, default), field in zip(_own_options(config).items(), _fields(config), strict=True):
        search = _widened(field.metadata["search"], default)
        if isinstance(search, OneOf):
            search = OneOf(tuple(each for each in search.values if _is_accepted(config, {name: each})))
        if search is not None and search != OneOf((default,)):
            found[name] = Parameter(search, default)
    return found


def _own_options(config: Config) -> dict[str, Any]:
    """Key → value, for the options of the method, in the order of `_fields`."""
    combine = config.combine
    return {
        f"combine.{combine.name}.{schema.key_of(field.name)}": getattr(getattr(combine, combine.name), field.name)
        for field in _fields(config)
    }


def _fields(config: Config) -> tuple[dataclasses.Field, ...]:
    method = METHODS.get(config.combine.name)
    return () if method is None or method.options is None else dataclasses.fields(method.options)


def _widened(search: Search | None, value: Any) -> Search | None:
    """Returns the range with `value` in it; None where it cannot have it."""
    if isinstance(search, Between):
        if search.log and value <= 0:
            return None
        return dataclasses.replace(search, low=min(search.low, value), high=max(search.high, value))
    return search


def _is_accepted(config: Config, values: Values) -> bool:
    try:
        applied(config, values)
    except ConfigError:
        return False
    return True


def _at(search: Search, share: float) -> Any:
    """Returns the value at a share of a range, between 0 and 1."""
    if isinstance(search, OneOf):
        return search.values[int(share * len(search.values))]
    if search.log:
        return rounded(search.low * (search.high / search.low) ** share)
    return rounded(search.low + (search.high - search.low) * share)


def _is_weighted(config: Config) -> bool:
    method, _ = registry.resolve(config.combine.name, settings.method_options(config.combine))
    return method.weighted and len(_weights(config)) > 1


def _weights(config: Config) -> dict[str, float]:
    """Loss → its weight, where that is a number above 0: a schedule stays as it is."""
    weights = {name: loss.weight for name, loss in config.losses.items()}
    return {name: weight for name, weight in weights.items() if isinstance(weight, float) and weight > 0}


def _weight(loss: str) -> str:
    return f"losses.{loss}.weight"
