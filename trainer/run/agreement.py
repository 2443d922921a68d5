"""Several workers make sure that they are about to do the same thing, before a step could go wrong without a word.

All of them compare themselves with the chief, and where one differs all end with the same line.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from input_pipelines import saved_data
from input_pipelines.saved_data import SavedData
from trainer.common import import_paths, loaded_code, schema
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
      ConfigError: a worker was started with other code, another configuration or other flags than the chief.
    """
    if workers.count == 1:
        return saved
    on_code(workers, of_both_only=True)  # first: other code may read no such configuration, or write another
    own = {"config": schema.as_dict(config), "profile": profile, "saved": saved and saved_data.to_json(saved)}
    heard = json.loads(workers.broadcast_text(json.dumps(own)))
    different = resuming.differences_from_chief(loading.resolve(heard["config"]), config)
    _refuse("configuration", different, workers)
    same = heard["profile"] == (profile and list(profile))
    _refuse("--profile", [] if same else [f"it is {heard['profile']} there and {profile} here"], workers)
    on_code(workers, _modules_in(heard["config"]))
    return heard["saved"] and saved_data.of_json(heard["saved"])


def on_data(saved: SavedData, workers: Workers) -> None:
    """Makes sure that every worker reads the same data, and feeds them in the same order.

    Raises:
      ConfigError: a worker's data are not the chief's.
    """
    if workers.count == 1:
        return
    own = saved_data.to_json(saved)
    chief, saved = saved_data.of_json(workers.broadcast_text(own)), saved_data.of_json(own)
    different = saved_data.changes(chief, saved, "is not the same")
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
    _refuse("dataset", different, workers)


def on_code(workers: Workers, named: Iterable[str] = (), *, of_both_only: bool = False) -> None:
    """Makes sure that every worker has loaded the same code, as far as it has loaded any.

    Args:
      workers: who takes part.
      named: modules that will be loaded, and are compared already.
      of_both_only: compare nothing that a worker alone has loaded.

    Raises:
      ConfigError: a worker's code, its Python or one of its packages is not the chief's.
    """
    if workers.count == 1:
        return
    own = loaded_code.loaded(named)
    chief = json.loads(workers.broadcast_text(json.dumps({"versions": own.versions, "digests": own.digests})))
    _refuse("code", loaded_code.differences(chief, own, of_both_only=of_both_only), workers)


def _modules_in(tree: Any) -> Iterator[str]:
    """The modules of all import paths among the values of a nested structure."""
    if isinstance(tree, str) and import_paths.is_path(tree):
        yield tree.partition(":")[0]
    elif isinstance(tree, dict | list | tuple):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _modules_in(value)


def _close(there: Any, here: Any) -> bool:
    """True where two structures of JSON are equal up to the rounding of different processors."""
    if isinstance(there, dict) and isinstance(here, dict):
        return there.keys() == here.keys() and all(_close(value, here[key]) for key, value in there.items())
    if isinstance(there, list) and isinstance(here, list):
        return len(there) == len(here) and all(map(_close, there, here))
    if isinstance(there, float) and isinstance(here, float):
        return math.isclose(there, here, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return there == here


def _refuse(field: str, different: Sequence[str], workers: Workers) -> None:
    """Raises the same ConfigError on all workers where one of them differs from the chief."""
    own = f"worker {workers.rank} is not like worker 0: {'; '.join(different)}" if different else ""
    if reason := workers.first_text(own):
        raise ConfigError(field, ConfigError.ABSENT, reason)
