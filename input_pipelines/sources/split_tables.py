"""The table beside pictures, in its splits: CSV, Parquet or CelebA's lists."""

import collections
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.sources import celeba, csv, parquet, source
from input_pipelines.sources.source import ABSENT_INTEGER, Arrays
from trainer.common.errors import ConfigError, unknown

_MEANT_TO_VALIDATE = (VALIDATION, "val", "valid", "test")
_PARQUET = (".parquet", ".pq")


@dataclasses.dataclass(frozen=True)
class Tables:
    """A table in its splits.

    Attributes:
      folder: in which it is.
      splits: split → its rows.
      in_none: rows that are in no split; None: there are no such rows.
      is_celeba: whether these are CelebA's lists.
      notes: lines for the user.
    """

    folder: str
    splits: Mapping[str, Arrays]
    in_none: Arrays | None
    is_celeba: bool
    notes: tuple[str, ...]


def read(config: SourceConfig, options: Mapping[str, Any], split_column: str | None, field: str) -> Tables:
    """The table at `config.path`.

    Args:
      config: the source; its `splits` name files or, with `split_column`, values of that column.
      options: those of the table.
      split_column: the column that says to which split a row belongs; None: the files do, and CelebA's own column.
      field: the configuration's key of the source.

    Raises:
      ConfigError: the table cannot be read, or lacks the column or a value of it.
    """
    if not os.path.exists(config.path):
        raise ConfigError(f"{field}.path", config.path, "does not exist")
    root = celeba.folder(config.path)
    folder = root or (config.path if os.path.isdir(config.path) else os.path.dirname(config.path))
    if root is None:
        kind = parquet if _is_parquet(config.path) else csv
        files = {} if split_column else config.splits
        of_table = dataclasses.replace(config, options=dict(options), splits=files, feed="memory")
        opened = kind.open_splits(of_table, field)
        splits = {name: each.in_memory() if kind is parquet else each for name, each in opened.items()}
    else:
        if options:
            raise unknown(f"{field}.options.table", options, "option of CelebA's lists", (), name=next(iter(options)))
        splits = {TRAIN: celeba.read(root, field)}
        split_column = split_column or (celeba.PARTITION if celeba.PARTITION in splits[TRAIN].arrays else None)
    notes = tuple(note for each in splits.values() for note in each.notes)
    if split_column is None:
        return Tables(folder, splits, None, root is not None, notes)
    if list(splits) != [TRAIN]:
        raise ConfigError(f"{field}.options.split_column", split_column, "is for one table; the files here are splits")
    wanted = config.splits or ({TRAIN: ["0"], VALIDATION: ["1"]} if root is not None else {})
    splits, in_none, said = _by_column(splits[TRAIN], split_column, wanted, field)
    return Tables(folder, splits, in_none, root is not None, notes + said)


def _is_parquet(path: str) -> bool:
    names = os.listdir(path) if os.path.isdir(path) else [path]
    return any(name.endswith(_PARQUET) for name in names)


def _by_column(
    table: Arrays, column: str, given: Mapping[str, list[str]], field: str
) -> tuple[dict[str, Arrays], Arrays | None, tuple[str, ...]]:
    """The splits that a column's values make, the rows of none of them, and a line for the user about these."""
    if column not in table.arrays:
        raise unknown(f"{field}.options.split_column", column, "column", table.arrays)
    values = np.array([_text(value) for value in table.arrays[column].tolist()], object)
    there = collections.Counter(values.tolist())
    by_name = source.splits_by_name(lambda name: name in there, _MEANT_TO_VALIDATE)
    wanted = given or {split: [name] for split, name in by_name.items()}
    for split, names in wanted.items():
        for name in names:
            if name not in there:
                raise unknown(f"{field}.splits.{split}", name, f"value of the column {column!r}", there)
    taken = [name for names in wanted.values() for name in names]
    splits = {split: table.rows(np.flatnonzero(np.isin(values, names))) for split, names in wanted.items()}
    rest = np.flatnonzero(~np.isin(values, taken))
    if not rest.size:
        return splits, None, ()
    counts = ", ".join(f"{column}={name} ({count})" for name, count in there.items() if name not in taken)
    return splits, table.rows(rest), (f"{field}: {rest.size} rows are in no split: {counts}",)


def _text(value: bytes | float) -> str:
    """A value of a column as `splits` names it; that of an absent one is empty."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value != value or value == ABSENT_INTEGER else f"{value:g}" if isinstance(value, float) else str(value)
