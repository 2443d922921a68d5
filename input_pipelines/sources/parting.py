"""Parts the examples of a training split: some to train on, the others to validate and to test on."""

import datetime

import numpy as np

from input_pipelines import part_settings
from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.part_settings import FoldConfig, HeldOutConfig
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError, unknown

_SEED = 0
_TENTHS = 10


def part(config: SourceConfig, train: Source, field: str) -> dict[str, Source]:
    """The splits that `held_out` or `fold` make of a training split, each in its order; the same in every process.

    Args:
      config: the source, with `held_out` or `fold`.
      train: all examples.
      field: the configuration's key of the source.

    Raises:
      ConfigError: the examples cannot be chosen one by one, there is no such feature or target, it does not say where
        an example belongs, or a split would be empty.
    """
    key = "held_out" if config.held_out is not None else "fold"
    chosen, at = getattr(config, key), f"{field}.{key}"
    if not hasattr(train, "rows"):
        words = "is for rows and arrays; give all splits (TFDS: 'train[:90%]', 'train[90%:]')"
        raise ConfigError(at, ConfigError.ABSENT, words)
    if isinstance(chosen, float):
        chosen = HeldOutConfig(chosen, None, None, None)
    if isinstance(chosen, FoldConfig):
        held_out = {VALIDATION: _fold(chosen, config, train, at)}
    else:
        held_out = _shares(chosen, config, train, at)
    rest = ~np.logical_or.reduce([*held_out.values()])
    for split, rows in ((TRAIN, rest), *held_out.items()):
        if not rows.any():
            raise ConfigError(at, ConfigError.ABSENT, f"leaves no example to the {split} split, of {len(train)}")
    return {split: train.rows(np.flatnonzero(rows)) for split, rows in ((TRAIN, rest), *held_out.items())}


def _shares(chosen: HeldOutConfig, config: SourceConfig, train: Source, field: str) -> dict[str, np.ndarray]:
    """Split → (examples,) bool: those that are held out, the last of an order for the split that is named last."""
    if chosen.last_by is not None:
        groups = _times(train, chosen.last_by, f"{field}.last_by")
        order = np.arange(groups.max() + 1)
    elif chosen.by is not None:
        groups = _groups(train, chosen.by, f"{field}.by")
        order = _order(groups.max() + 1)
    else:
        groups, order = np.arange(len(train)), _spread(config, train, chosen.stratify, field)
    shares = part_settings.shares(chosen)
    from_each_on = {split: sum([*shares.values()][place:]) for place, split in enumerate(shares)}
    if chosen.last_by is None and chosen.by is None:
        firsts = [len(train) - int(round(share * len(train))) for share in from_each_on.values()]
    else:
        firsts = [_first(np.bincount(groups)[order], share) for share in from_each_on.values()]
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    ends = [*firsts[1:], len(order)]
    return {
        split: (places[groups] >= first) & (places[groups] < end)
        for split, first, end in zip(shares, firsts, ends, strict=True)
    }


def _fold(chosen: FoldConfig, config: SourceConfig, train: Source, field: str) -> np.ndarray:
    """(examples,) bool: those of the fold to validate on."""
    if chosen.by is None:
        order = _spread(config, train, chosen.stratify, field)
        ends = [number * len(train) // chosen.of for number in (chosen.number - 1, chosen.number)]
        held_out = np.zeros(len(train), bool)
        held_out[order[slice(*ends)]] = True
        return held_out
    groups = _groups(train, chosen.by, f"{field}.by")
    sizes, loads = np.bincount(groups), np.zeros(chosen.of, np.int64)
    if len(sizes) < chosen.of:
        raise ConfigError(f"{field}.of", chosen.of, f"is more than {chosen.by!r} has different values, {len(sizes)}")
    fold_of = np.empty(len(sizes), np.int64)
    order = _order(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = loads.argmin()
        loads[fold_of[group]] += sizes[group]
    return fold_of[groups] == chosen.number - 1


def _first(sizes: np.ndarray, share: float) -> int:
    """The first of the last groups, in the order of their sizes, that come nearest to a share; one of them at least.

    The first group is never among them.
    """
    if len(sizes) < 2 or not share:
        return len(sizes)
    from_each_on = np.cumsum(sizes[::-1])[::-1]
    return 1 + int(np.argmin(np.abs(from_each_on[1:] - share * sizes.sum())))


def _order(count: int) -> np.ndarray:
    return np.random.RandomState(_SEED).permutation(count)


def _spread(config: SourceConfig, train: Source, target: str | None, field: str) -> np.ndarray:
    """An order of all examples, at random; with a target, every part of it has the target's values in their shares."""
    order = _order(len(train))
    if target is None:
        return order
    strata = _strata(config, train, target, f"{field}.stratify")[order]
    by_stratum = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    within = np.arange(len(train)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # An example's place is how much of its stratum comes before it; the smallest differences are drawn.
    places = (within + np.random.RandomState(_SEED).uniform(size=len(train))) / np.repeat(sizes, sizes)
    return order[by_stratum[np.argsort(places, kind="stable")]]


def _strata(config: SourceConfig, train: Source, target: str, field: str) -> np.ndarray:
    """(examples,) the stratum of each: its value of a target's one feature, or the tenth of real numbers it is in.

    Missing labels are a stratum of their own.
    """
    if target not in (config.targets or {}):
        raise unknown(field, target, "target", config.targets or {})
    given = config.targets[target].feature or target
    feature = given if isinstance(given, str) else given[0] if len(given) == 1 else None
    if feature not in train.features or train.features[feature].shape.rank:
        raise ConfigError(field, target, "must be made of one feature with a single value for each example")
    values = _column(train, feature)
    if values.dtype.kind == "f" and (np.nan_to_num(values) % 1).any():
        edges = np.nanquantile(values, np.arange(1, _TENTHS) / _TENTHS)
        values = np.where(np.isnan(values), _TENTHS, np.searchsorted(edges, values, side="right"))
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _groups(train: Source, feature: str, field: str) -> np.ndarray:
    """(examples,) int, which of a feature's different values each has; raises ConfigError for one without a value."""
    if feature not in train.features:
        raise unknown(field, feature, "feature", train.features)
    if train.features[feature].shape.rank:
        raise ConfigError(field, feature, "must be a feature with a single value for each example")
    values = _column(train, feature)
    absent = np.isnan(values) if values.dtype.kind == "f" else values == b"" if values.dtype == object else False
    if np.any(absent):
        raise ConfigError(field, feature, f"has no value in {train.where(int(np.argmax(absent)))}")
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _times(train: Source, feature: str, field: str) -> np.ndarray:
    """As `_groups`, in the order of time: of numbers, or of text that is a date or a time of ISO 8601."""
    groups = _groups(train, feature, field)
    values = _column(train, feature)
    if values.dtype != object:
        return groups
    times: dict[bytes, datetime.datetime] = {}
    for index, text in enumerate(values):
        if text not in times:
            times[text] = _time(text.decode(errors="replace"), train, index, feature, field)
    order = {time: place for place, time in enumerate(sorted(set(times.values())))}
    return np.array([order[times[text]] for text in values])


def _time(text: str, train: Source, index: int, feature: str, field: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        words = f"holds {text!r} in {train.where(index)}; it must hold numbers, or dates as 2024-12-31 or with a time"
        raise ConfigError(field, feature, words) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)


def _column(train: Source, feature: str) -> np.ndarray:
    return np.concatenate([chunk[feature] for chunk in train.chunks([feature])])
