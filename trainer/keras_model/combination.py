"""The combination that `compile(combine=...)` selects: by name, with options, or a function of the user's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainer.combine import registry, user_function
from trainer.combine.combination import Combination
from trainer.combine.registry import METHODS, Method
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown

_AROUND = {"log_losses": schema.boolean, "smoothing": schema.fraction, "update_every": schema.integer(1)}


@dataclasses.dataclass(frozen=True)
class Combine:
    """The combination that `compile(combine=...)` selects.

    Attributes:
      name: its name.
      method: what its name and options select.
      options: what is left of its options for the method's functions.
      given: all its options.
      log_losses: as `combine.log_losses` of a configuration.
      smoothing: as `combine.smoothing`.
      update_every: as `combine.update_every`.
    """

    name: str
    method: Method
    options: Mapping[str, Any]
    given: Mapping[str, Any]
    log_losses: bool = False
    smoothing: float = 0.0
    update_every: int = 1

    def of_losses(self, count: int) -> Combination:
        """The combination of `count` losses; raises ConfigError where it cannot combine this number."""
        if not self.method.own:
            registry.check_count(self.name, self.given, count)
        return Combination(
            self.method,
            self.options,
            count,
            use_weights=not self.method.weighted,
            log_losses=self.log_losses,
            smoothing=self.smoothing,
        )


def select(given: Any) -> Combine:
    """The combination that a name, a dictionary of a name and options, or a function selects; raises ConfigError."""
    field = "combine"
    if callable(given) or isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or "name" not in given:
        raise ConfigError(field, given, "must be a name, a dictionary of its 'name' and options, or a function")
    options = dict(given)
    name = options.pop("name")
    if isinstance(name, str) and import_paths.is_path(name):
        raise ConfigError(field, name, "must be the function itself, not its import path")
    if not callable(name) and (not isinstance(name, str) or name not in METHODS):
        raise unknown(field, name, "combination", METHODS)
    around = {key: check(options.pop(key), f"{field}.{key}") for key, check in _AROUND.items() if key in options}
    if callable(name):
        method, left = registry.resolve(name, options, field=field, options_field=field)
        return Combine(user_function.name_of(name), method, left, left, **around)
    checked = _options(METHODS[name].options, options, field, [*_AROUND])
    method, left = registry.resolve(name, checked)
    return Combine(name, method, left, checked, **around)


def _options(kind: type | None, options: dict[str, Any], field: str, around: list[str]) -> dict[str, Any]:
    """A method's options with its defaults; raises ConfigError for one that it has not."""
    own = [] if kind is None else [each.name for each in dataclasses.fields(kind)]
    for key, value in options.items():
        if key not in own:
            raise unknown(f"{field}.{key}", value, "option", [*own, *around], name=key)
    return {} if kind is None else vars(schema.record(kind)(options, field))


def way_to_apply(given: str | None, combine: Combine) -> str:
    """Returns "joint" or "per_loss"; raises ConfigError where the combination cannot be applied like that."""
    field = "apply"
    if given not in (None, "joint", "per_loss"):
        raise unknown(field, given, "way to apply", ("joint", "per_loss"))
    if combine.method.per_loss and given == "joint":
        allowed = f"{combine.name!r} is always applied per loss; 'weighted' is its joint form"
        raise ConfigError(field, given, allowed)
    return given or ("per_loss" if combine.method.per_loss else "joint")
