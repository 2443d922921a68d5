"""The settings that may change when a run is resumed, and the comparison of all others."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.common import schema
from trainer.config import plan
from trainer.config.settings import Config

# These may change when a run is resumed: they decide when things happen, what is kept and how the same numbers are
# computed (up to rounding), not what is computed.
_FREE = (
    "steps_per_loop",
    "report_every",
    "eval_every",
    "evaluate",
    "segments",
    "checkpoint_every",
    "keep_checkpoints",
    "best",
    "early_stopping",
    "hooks",
    "loggers",
    "reduction",
    "probe_every",
    "bytes_per_pack",
    "compile",
    "model.recompute",
    "optimizer",  # each of those that it decides is compared itself
)
# Of these, what may still decide which values a run ends with, or which of its checkpoints is taken.
_DECIDING = ("eval_every", "best", "early_stopping", "reduction")
# May change, too: that the data are the same is checked by their fingerprint.
_WHERE_DATA_ARE = re.compile(r"dataset\.(sources\.[^.]+\.)?(path|data_dir|memory_limit)")


def differences(saved: Config, now: Config) -> list[str]:
    """Returns the reasons why a run cannot be resumed with another configuration.

    Args:
      saved: the run's own configuration.
      now: the configuration to resume it with.

    Returns:
      A description of every field that differs and must not. Intervals may, `eval_every` unless learning rates are
      reduced on a plateau, and `steps` unless a schedule depends on their number.
    """
    free = {*_FREE, "steps"}
    if _schedules_over_the_run(now):
        free.remove("steps")
    if now.reduce_on_plateau is not None:
        free.remove("eval_every")
    if not plan.same_but_for_roundings(saved, now):
        free.remove("reduction")
    why = {"steps": " (a schedule depends on it)", "eval_every": " (reduce_on_plateau depends on it)"}
    return [
        found + why.get(field, "") for field, found in _different(saved, now).items() if not _is_within(field, free)
    ]


def deciding(config: Config) -> dict[str, Any]:
    """Returns field → value of all that decides what a run comes to, but for its seed and where its data are."""
    left_out = {*_FREE, "seed"} - {*_DECIDING}
    leaves = _leaves(schema.as_dict(config))
    kept = {field: value for field, value in leaves.items() if not _is_within(field, left_out)}
    return {field: value for field, value in kept.items() if not _WHERE_DATA_ARE.fullmatch(field)}


def draws_otherwise(saved: Config, now: Config) -> str | None:
    """Returns the reason why a run whose model draws random numbers cannot be resumed; None where it can."""
    if saved.compile == now.compile:
        return None
    return (
        f"compile is {saved.compile!r} there and {now.compile!r} here (the model draws random numbers, and XLA draws "
        "others)"
    )


def differences_from_chief(chief: Config, own: Config) -> list[str]:
    """A description of every field in which a worker's own configuration differs, except where its data are."""
    return list(_different(chief, own).values())


def _different(there: Config, here: Config) -> dict[str, str]:
    """Field → its values there and here, for every field that differs, except where data are."""
    before, after = _leaves(schema.as_dict(there)), _leaves(schema.as_dict(here))
    found = {}
    if list(there.losses) != list(here.losses) and set(there.losses) == set(here.losses):
        found["losses"] = f"losses are in the order {', '.join(there.losses)} there and {', '.join(here.losses)} here"
    first, second = there.learning_rate_factors, here.learning_rate_factors
    if first == second and list(first) != list(second):  # the first pattern that matches counts
        orders = (", ".join(factors) for factors in (first, second))
        found["learning_rate_factors"] = "learning_rate_factors are in the order {} there and {} here".format(*orders)
    for field in dict.fromkeys((*before, *after)):
        if before.get(field) != after.get(field) and not _WHERE_DATA_ARE.fullmatch(field):
            found[field] = f"{field} is {before.get(field)!r} there and {after.get(field)!r} here"
    return found


def _is_within(field: str, names: Iterable[str]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def _leaves(tree: Mapping[str, Any], field: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        at = schema.join(field, key)
        leaves |= _leaves(value, at) if isinstance(value, dict) and value else {at: value}
    return leaves


def _schedules_over_the_run(config: Config) -> bool:
    """True where a schedule's length is that of the run: a cosine without `decay_steps`."""
    used = [config.shared_optimizer, *(loss.optimizer for loss in config.losses.values())]
    specs = [optimizer.get("learning_rate") for optimizer in used] + [loss.weight for loss in config.losses.values()]
    names = [schema.squashed(spec["name"]) for spec in specs if isinstance(spec, dict) and "decay_steps" not in spec]
    return "cosinedecay" in names
