"""The start of a new run from trained values (`init_from`): which variables take which of them."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainer.common import atomic_files, patterns
from trainer.common.errors import ConfigError, listed
from trainer.config.initial_values import FIELD, PATH, InitialValuesConfig
from trainer.distributed.workers import Workers
from trainer.models import weight_files
from trainer.output import checkpoint, summary
from trainer.run import value_sources
from trainer.run.experiment import Experiment
from trainer.run.value_sources import Source
from trainer.step.update import AVERAGE

_LISTED = 6  # groups of variables in a line


@dataclasses.dataclass(frozen=True)
class InitialValues:
    """The trained values with which a new run's variables begin.

    Attributes:
      source: the place where they were.
      taken: variable → its name there.
      skipped: variable → the reason why its value there does not fit.
      left: variables that are as their layers have initialized them.
      unused: names there of which no variable took the value.
      parameters: numbers in all variables that were taken.
    """

    source: str
    taken: Mapping[str, str]
    skipped: Mapping[str, str]
    left: Sequence[str]
    unused: Sequence[str]
    parameters: int

    def save(self, path: pathlib.Path) -> None:
        """Writes all of this as JSON."""
        atomic_files.write_whole(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    def lines(self) -> list[str]:
        """All of this in a few lines, variables of the same fate by the layers that they are in."""
        count = len(self.taken) + len(self.skipped) + len(self.left)
        names = (*self.taken, *self.skipped, *self.left)
        found = [
            f"initial values of {self.source}: {len(self.taken)} of {summary.counted(count, 'variable')} "
            f"({summary.counted(self.parameters, 'parameter')}): {_groups(self.taken, names)}"
        ]
        if self.skipped:
            found.append(f"  skipped, of another shape there: {len(self.skipped)}: {_groups(self.skipped, names)}")
        if self.left:
            found.append(f"  initialized as their layers say: {len(self.left)}: {_groups(self.left, names)}")
        if self.unused:
            there = (*self.unused, *self.taken.values())
            found.append(f"  not used of what is there: {len(self.unused)}: {_groups(self.unused, there)}")
        return found


def take(config: InitialValuesConfig, built: Experiment, workers: Workers, base: pathlib.Path) -> InitialValues | None:
    """Gives a new run's variables the values that `init_from` names, also their moving averages; writes nothing.

    The chief reads them, and all other workers get its own.

    Args:
      config: the configuration's `init_from`.
      built: the experiment.
      workers: who takes part; all of them call this.
      base: the directory that a relative path is in.

    Returns:
      What was taken; None beside the chief.

    Raises:
      ConfigError: there are no such values, or they do not fit.
    """
    variables = checkpoint.model_state(built.model)
    averages = built.step.averages()
    found, failure = None, ""
    if workers.is_chief:
        try:
            source = value_sources.read(config.path, base)
            others = weight_files.names_in_files(built.model) if source.is_file else {}
            found = _assign(config, source, variables, others)
        except ConfigError as error:
            failure = json.dumps([error.field, str(error.value), error.allowed])
    if failure := workers.first_text(failure):
        raise ConfigError(*json.loads(failure))
    for name, average in averages.get(AVERAGE, {}).items():
        average.assign(tf.convert_to_tensor(variables[name]))
    workers.broadcast_variables({"model": variables, **averages})
    return found


def _assign(
    config: InitialValuesConfig, source: Source, variables: Mapping[str, tf.Variable], others: Mapping[str, str]
) -> InitialValues:
    """Gives the variables their values; `others` are further names by which they go in the source."""
    chosen = _chosen(config.only, variables)
    taken: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for new, old in _renamed(config, source).items():
        name = new if new in variables else others.get(new)
        if name not in chosen:
            continue
        if (reason := _misfit(variables[name], source.values[old])) is None:
            taken[name] = old
        elif config.skip_mismatched:
            skipped[name] = f"{old} is {reason}"
        else:
            advice = f"{FIELD}.skip_mismatched=True leaves such variables as they are initialized"
            raise ConfigError(PATH, config.path, f"its {old} is {reason} ({name}); {advice}")
    if not taken:
        reason = f"holds nothing that fits {_outermost(chosen)} of this model; it has {_outermost(source.values)}"
        raise ConfigError(PATH, config.path, f"{reason} ({FIELD}.rename says what is meant)")
    _refuse_renaming_to_nothing(config.rename, source, {*variables, *others})
    for name, old in taken.items():
        variables[name].assign(source.values[old].astype(variables[name].dtype.as_numpy_dtype))
    used = set(taken.values())
    return InitialValues(
        source=source.shown,
        taken={name: taken[name] for name in variables if name in taken},
        skipped=skipped,
        left=tuple(name for name in variables if name not in taken and name not in skipped),
        unused=tuple(old for old in source.values if old not in used),
        parameters=sum(math.prod(variables[name].shape) for name in taken),
    )


def _chosen(only: Sequence[str], variables: Mapping[str, tf.Variable]) -> list[str]:
    for index, pattern in enumerate(only):
        if not patterns.matching(variables, pattern):
            reason = f"matches none of this model's variables: {listed(variables, pattern)}"
            raise ConfigError(f"{FIELD}.only.{index}", pattern, reason)
    wanted = {name for pattern in only for name in patterns.matching(variables, pattern)}
    return [name for name in variables if name in wanted]


def _renamed(config: InitialValuesConfig, source: Source) -> dict[str, str]:
    """Name here → name there of every value; one that is renamed comes before another that has this name there."""
    renamed: dict[str, str] = {}
    matched = set()
    kept = {}
    for old in source.values:
        for pattern, new in config.rename.items():
            name = patterns.renamed(old, pattern, new)
            if name is not None:
                matched.add(pattern)
                if name in renamed:
                    reason = f"names {old} as {renamed[name]} is named, {name}"
                    raise ConfigError(f"{FIELD}.rename", pattern, reason)
                renamed[name] = old
                break
        else:
            kept[old] = old
    for pattern in config.rename:
        if pattern not in matched:
            reason = f"matches none of the names in {source.shown}: {listed(source.values, pattern)}"
            raise ConfigError(f"{FIELD}.rename", pattern, reason)
    return kept | renamed


def _refuse_renaming_to_nothing(rename: Mapping[str, str], source: Source, known: Collection[str]) -> None:
    for pattern, new in rename.items():
        if not any(patterns.renamed(old, pattern, new) in known for old in source.values):
            reason = f"names none of this model's variables: {listed(known, new)}"
            raise ConfigError(f"{FIELD}.rename.{pattern}", new, reason)


def _misfit(variable: tf.Variable, value: np.ndarray) -> str | None:
    """The type and shape there and here, where they do not fit; floating-point types fit one another."""
    here, there = variable.dtype, tf.as_dtype(value.dtype)
    same = here == there or (here.is_floating and there.is_floating) or (here.is_integer and there.is_integer)
    if same and tuple(variable.shape) == value.shape:
        return None
    return f"{there.name}{list(value.shape)} there and {here.name}{list(variable.shape)} here"


def _outermost(names: Iterable[str]) -> str:
    """The outermost layers that variables of these names are in, as patterns; of many the first ones."""
    return listed((name if "/" not in name else f"{name.partition('/')[0]}/*" for name in names), "")


def _groups(chosen: Sequence[str] | Mapping[str, str], among: Sequence[str]) -> str:
    """Names by the outermost layers of which all variables are among them, as patterns; the first of many."""
    others = set(among) - set(chosen)
    if not others:
        return "all"
    found = list(dict.fromkeys(_group(name, others) for name in chosen))
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more


def _group(name: str, others: set[str]) -> str:
    return next((f"{around}*" for around in _around(name) if not any(each.startswith(around) for each in others)), name)


def _around(name: str) -> Iterator[str]:
    """The paths of the layers that a variable is in, from outside, each with its slash."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[: end + 1]) + "/" for end in range(len(parts)))
