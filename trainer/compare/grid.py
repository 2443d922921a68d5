"""The cells of a comparison, and the configuration of each: methods, what varies, and each loss alone."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.combine import registry
from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError
from trainer.compare import single_task
from trainer.compare.plan_file import Cell
from trainer.config import loading
from trainer.config.settings import Config

_KEY = "config."
_COMBINE, _LOSSES = "combine", "losses"
_ELSEWHERE = {"seed": "is for --seeds", "combine.name": "is for --combine"}
_PASS_PER_LOSS = {"reduction": "per_loss", "probe_every": None}
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


class Variation(NamedTuple):
    """A key of the configuration and the values that it has in the cells of a comparison."""

    key: str
    values: Sequence[Any]


class Prepared(NamedTuple):
    """A cell with its configuration, but for the seed; or the reason why it has none."""

    cell: Cell
    config: Config | None
    failure: str = ""


def methods(names: Sequence[str], field: str = "--combine") -> tuple[str, ...]:
    """Returns the methods, each once; raises ConfigError for a name that is none."""
    return tuple(dict.fromkeys(registry.check_name(name, field) for name in names))


def variation(text: str, field: str = "--vary") -> Variation:
    """Reads `config.<key>=<value>,<value>`; commas within brackets and quotation marks part nothing.

    Raises:
      ConfigError: it cannot be read, or the key is one that a comparison sets otherwise.
    """
    key, given, values = text.partition("=")
    if not key.removeprefix(_KEY) or not given or not values:
        raise ConfigError(field, text, "must be config.<key>=<value>,<value>, for example config.batch_size=32,64")
    return varied(key, [loading.parse_value(value) for value in _parts(values)], field)


def varied(key: str, values: Sequence[Any], field: str) -> Variation:
    """Returns a variation.

    Raises:
      ConfigError: a comparison sets this key otherwise, or a value is not plain or there twice.
    """
    key = key.removeprefix(_KEY)
    values = loading.plain(list(values), None, f"{field}.{key}")
    if not values:
        raise ConfigError(field, key, "needs at least one value")
    if key in _ELSEWHERE:
        raise ConfigError(field, key, _ELSEWHERE[key])
    if any(value in values[:place] for place, value in enumerate(values)):
        raise ConfigError(field, key, "has the same value twice")
    return Variation(key, values)


def cells(
    config: Config, methods_: Sequence[str], variations: Sequence[Variation], *, single_tasks: bool
) -> tuple[Cell, ...]:
    """Returns every method with every combination of what varies, then every loss alone where wanted.

    What varies of another method, or of a loss that a cell does not have, makes no cells of its own.
    """
    found = [Cell(name, settings) for name in methods_ for settings in _settings(name, None, variations)]
    if single_tasks:
        for loss in single_task.tasks(config):
            every = _settings(single_task.METHOD, loss, variations)
            found += [Cell(single_task.METHOD, settings, loss) for settings in every]
    return tuple(each for place, each in enumerate(found) if each not in found[:place])


def prepare(tree: Mapping[str, Any], cells_: Sequence[Cell]) -> list[Prepared]:
    """Returns every cell with its configuration.

    Args:
      tree: the configuration from which they are made, as it was given.
      cells_: the cells.

    Raises:
      ConfigError: none of them can be trained, or none that has a certain value of what varies, because of that.
    """
    found, errors = [], {}
    for cell in cells_:
        try:
            found.append(Prepared(cell, configuration(tree, cell)))
        except ConfigError as error:
            errors[len(found)] = error
            found.append(Prepared(cell, None, str(error)))
    if len(errors) == len(found):
        raise next(iter(errors.values()))
    for place, error in errors.items():
        for key, value in found[place].cell.settings.items():
            is_fine = any(each.config and each.cell.settings.get(key, ...) == value for each in found)
            if not is_fine and _concerns(error, key):
                raise error
    return found


def configuration(tree: Mapping[str, Any], cell: Cell) -> Config:
    """Returns the resolved configuration of a cell; raises ConfigError where there is none.

    A method that cannot have one backward pass for all losses has one for each where the configuration says otherwise:
    that changes roundings alone.
    """
    own = copy.deepcopy(dict(tree))
    for key, value in cell.settings.items():
        loading.set_value(own, key, value, key, value)
    loading.set_value(own, "combine.name", cell.method, "--combine", cell.method)
    if cell.single_task is not None:
        own[_COMBINE] = {"name": cell.method}  # others' ways to apply and to reduce need not suit it
        return single_task.alone(loading.resolve(own | _PASS_PER_LOSS), cell.single_task)
    try:
        return loading.resolve(own)
    except ConfigError as error:
        if error.field not in _PASS_PER_LOSS or _PASS_PER_LOSS.keys() & cell.settings.keys():
            raise
        return loading.resolve(own | _PASS_PER_LOSS)


def _settings(method: str, loss: str | None, variations: Sequence[Variation]) -> Iterator[dict[str, Any]]:
    """Every combination of what varies for a cell of this method and, where it is trained alone, of this loss."""
    own = [each for each in variations if _is_for(each.key, method, loss)]
    for values in itertools.product(*(each.values for each in own)):
        yield dict(zip((each.key for each in own), values, strict=True))


def _is_for(key: str, method: str, loss: str | None) -> bool:
    first, _, rest = key.partition(".")
    second = rest.partition(".")[0]
    if first == _COMBINE:
        return loss is None and (second not in METHODS or second == method)
    return first != _LOSSES or loss is None or second == loss


def _concerns(error: ConfigError, key: str) -> bool:
    return error.field == key or error.field.startswith(f"{key}.") or key.startswith(f"{error.field}.")


def _parts(text: str) -> list[str]:
    """The text between commas that are not within brackets or quotation marks."""
    parts, closing, quote = [""], [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _BRACKETS:
            closing.append(_BRACKETS[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            parts.append("")
            continue
        parts[-1] += character
    return parts
