"""Several workers make sure that they are about to do the same thing, before a step could go wrong without a word."""

import dataclasses
import json
import math
from typing import Any

from input_pipelines import data as data_lib
from input_pipelines.data import SavedData
from trainer.common.errors import ConfigError
from trainer.config import loading, resuming
from trainer.config.settings import Config
from trainer.distributed.workers import Workers

_ROUNDING = 1e-9


def on_start(
    config: Config, profile: tuple[int, int] | None, saved: SavedData | None, workers: Workers
) -> SavedData | None:
    """Tells the other workers what the chief is about to do.

    Args:
      config: this worker's configuration.
      profile: the steps that its flags say to profile.
      saved: on the chief, what the run has kept of its data; None for a new one.
      workers: who takes part.

    Returns:
      The chief's `saved`.

    Raises:
      ConfigError: this worker was started with another configuration or other flags than the chief.
    """
    if workers.count == 1:
        return saved
    own = {"config": dataclasses.asdict(config), "profile": profile, "saved": saved and data_lib.to_json(saved)}
    heard = json.loads(workers.broadcast_text(json.dumps(own)))
    different = resuming.differences_from_chief(loading.resolve(heard["config"]), config)
    if different:
        raise _unlike_chief("configuration", workers, "; ".join(different))
    if heard["profile"] != (profile and list(profile)):
        raise _unlike_chief("--profile", workers, f"it is {heard['profile']} there and {profile} here")
    return heard["saved"] and data_lib.of_json(heard["saved"])


def on_data(saved: SavedData, workers: Workers) -> None:
    """Makes sure that every worker reads the same data, and feeds them in the same order.

    Raises:
      ConfigError: this worker's data are not the chief's.
    """
    if workers.count == 1:
        return
    own = data_lib.to_json(saved)
    chief, saved = data_lib.of_json(workers.broadcast_text(own)), data_lib.of_json(own)
    different = data_lib.changes(chief, saved, "is not the same")
    different += [
        f"{field}: what was learned from the training split is not the same"
        for field, learned in chief.statistics.items()
        if not _close(learned, saved.statistics[field])
    ]
    different += [
        f"losses.{loss}.class_weights: the counts of classes in the training split are not the same"
        for loss, counts in chief.class_counts.items()
        if saved.class_counts.get(loss) != counts
    ]
    different += [
        f"{field}: the feed is {feed} there and {saved.feeds[field]} here (memory_limit)"
        for field, feed in chief.feeds.items()
        if saved.feeds[field] != feed
    ]
    if different:
        raise _unlike_chief("dataset", workers, "; ".join(different))


def _close(there: Any, here: Any) -> bool:
    """True where two structures of JSON are equal up to the rounding of different processors."""
    if isinstance(there, dict) and isinstance(here, dict):
        return there.keys() == here.keys() and all(_close(value, here[key]) for key, value in there.items())
    if isinstance(there, list) and isinstance(here, list):
        return len(there) == len(here) and all(map(_close, there, here))
    if isinstance(there, float) and isinstance(here, float):
        return math.isclose(there, here, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return there == here


def _unlike_chief(field: str, workers: Workers, reason: str) -> ConfigError:
    return ConfigError(field, ConfigError.ABSENT, f"worker {workers.rank} is not like worker 0: {reason}")
