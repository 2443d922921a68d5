"""The optimizer of every loss and of the shared variables, in full: what is said of each, what is said once for all."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from trainer.config.settings import DEFAULT_OPTIMIZER, Config

_NAME = "name"


def resolve(config: Config) -> Config:
    """The configuration in which every optimizer has its name and all its arguments.

    One that is not given is `optimizer`. One that is given without a name has the name of `optimizer` and those of its
    arguments that it does not give itself; `optimizer` without a name does the same with its default. One with a name
    has nothing but what is given.
    """
    optimizer = _completed(config.optimizer, DEFAULT_OPTIMIZER)
    losses = {
        name: dataclasses.replace(loss, optimizer=_completed(loss.optimizer, optimizer))
        for name, loss in config.losses.items()
    }
    shared = _completed(config.shared_optimizer, optimizer)
    return dataclasses.replace(config, optimizer=optimizer, shared_optimizer=shared, losses=losses)


def by_field(config: Config) -> dict[str, dict[str, Any]]:
    """Every optimizer of a resolved configuration by its key; `optimizer` first, on which the others may depend."""
    own = {f"losses.{name}.optimizer": loss.optimizer for name, loss in config.losses.items()}
    return {"optimizer": config.optimizer, "shared_optimizer": config.shared_optimizer, **own}


def _completed(given: Mapping[str, Any] | None, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """Something built by name, with what it inherits where its own name is not given; so are dictionaries within."""
    if given is None:
        given = {}
    if _NAME in given:
        return copy.deepcopy(dict(given))
    found = copy.deepcopy({**inherited, **given})
    for key, before in inherited.items():
        if isinstance(before, Mapping) and _NAME in before and isinstance(given.get(key), Mapping):
            found[key] = _completed(given[key], before)  # a schedule of which one argument changes
    return found
