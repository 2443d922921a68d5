"""Pictures beside a table: rows of CSV or Parquet files, or of CelebA's lists, name them and say what is on them.

"options": {"picture": "file", "masks": ["mask"], "folder": "pictures", "split_column": "split"}

Features: the columns of the table, `image`, and in the place of each column of masks the mask itself.
"""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.sources import celeba, folders, pictures, split_tables
from input_pipelines.sources.encoded_pictures import PictureOptions
from input_pipelines.sources.picture_files import PictureFiles
from input_pipelines.sources.pictured_rows import IMAGE, Stored, TableOfImages
from input_pipelines.sources.source import Arrays
from input_pipelines.sources.split_tables import Tables
from trainer.common import schema
from trainer.common.errors import ConfigError, listed, unknown
from trainer.common.schema import setting

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Options(PictureOptions):
    """The columns that name pictures, the folder in which they are, and how table and pictures are read."""

    picture: str | None = setting(
        schema.optional(schema.string), None, "The column that names the pictures. None: of CelebA `file`."
    )
    masks: list[str] = setting(
        schema.sequence(schema.string), [], "Columns that name masks: pictures of one channel, for targets."
    )
    folder: str | None = setting(
        schema.optional(schema.string),
        None,
        "The folder of all pictures, below the table's own unless it is an absolute path. None: the table's own.",
    )
    split_column: str | None = setting(
        schema.optional(schema.string),
        None,
        "The column that says to which split a row belongs; `splits` then names its values, not files.",
    )
    shape: list[int] | None = setting(
        schema.optional(schema.sequence(schema.integer(1))),
        None,
        "Height, width and channels of the pictures where all have the same. None: their sides vary.",
    )
    channels: int = setting(schema.integer(1), 3, "Channels of the pictures where `shape` does not say.")
    table: dict = setting(schema.keyword_arguments, {}, "Options of the table, those of a CSV file.")


def open_splits(config: SourceConfig, field: str) -> dict[str, TableOfImages]:
    """The splits of a table: its files as of CSV or Parquet, or the values of `options.split_column`.

    Rows without a picture, and pictures without a row, are left out and said.

    Raises:
      ConfigError: the table cannot be read, a column is not in it, or no row of a split has a picture.
    """
    at = f"{field}.options"
    options = schema.record(Options)(config.options, at)
    tables = split_tables.read(config, options.table, options.split_column, field)
    options = _with_defaults(options, tables, at)
    root = os.path.normpath(os.path.join(tables.folder, options.folder or ""))
    if not os.path.isdir(root):
        raise ConfigError(f"{at}.folder", options.folder, f"must be a folder; there is none at {root}")
    files = PictureFiles(root)
    rows, notes, used = {}, list(tables.notes), set()
    for name, table in tables.splits.items():
        paths = _paths(options, files, table, f"{field}.splits.{name}")
        used.update(path for column in paths.values() for path in column)
        rows[name], lines = _with_pictures(options, files, table, paths, f"{field}.splits.{name}")
        notes += lines
    if tables.in_none is not None:
        paths = _paths(options, files, tables.in_none, field)
        used.update(path for column in paths.values() for path in column)
    without_row = [("pictures without a row", path) for path in files.without_row(used)]
    notes += [f"{field}: left out of {root}: {folders.in_words(without_row)}"] if without_row else []
    opened = _opened(config, options, rows, field)
    first = next(iter(opened))
    return {**opened, first: dataclasses.replace(opened[first], notes=tuple(notes))}


def _with_defaults(options: Options, tables: Tables, field: str) -> Options:
    """The options with CelebA's own in the place of those that are not given, all of their columns in the table."""
    if tables.is_celeba:
        there = [name for name in celeba.PICTURES if os.path.isdir(os.path.join(tables.folder, name))]
        picture, folder = options.picture or celeba.FILE, options.folder or (there[0] if there else None)
        options = dataclasses.replace(options, picture=picture, folder=folder)
    columns = next(iter(tables.splits.values())).features
    if options.picture is None:
        reason = f"is missing: the column that names the pictures; there are {listed(columns, 'picture')}"
        raise ConfigError(f"{field}.picture", ConfigError.ABSENT, reason)
    for key, names in (("picture", [options.picture]), ("masks", options.masks)):
        for name in names:
            if name not in columns:
                raise unknown(f"{field}.{key}", name, "column", columns)
            if columns[name].shape.rank:
                raise ConfigError(f"{field}.{key}", name, "must be a column of text or numbers that name pictures")
    if IMAGE in columns and options.picture != IMAGE:
        reason = f"is a column beside the one that names the pictures, {options.picture!r}; {IMAGE!r} is the picture"
        raise ConfigError(f"{field}.picture", options.picture, f"{IMAGE!r} {reason}: rename it")
    return options


def _paths(options: Options, files: PictureFiles, table: Arrays, field: str) -> dict[str, np.ndarray]:
    """Feature → what `PictureFiles.column` gives of the column that names its pictures."""
    masks = {name: files.column(table, name, field) for name in options.masks}
    others = {path for paths in masks.values() for path in paths}
    return {IMAGE: files.column(table, options.picture, field, others), **masks}


def _with_pictures(
    options: Options, files: PictureFiles, table: Arrays, paths: Mapping[str, np.ndarray], field: str
) -> tuple[tuple[Arrays, dict[str, np.ndarray]], list[str]]:
    """The rows that have a picture, with their paths (b"": there is no such mask), and lines about the others."""
    lines = []
    for name, column in paths.items():
        own = options.picture if name == IMAGE else name
        then = "left out" if name == IMAGE else "without a label"
        missing = np.flatnonzero([path is None for path in column]).tolist()
        empty = np.flatnonzero([path == b"" for path in column]).tolist() if name == IMAGE else []
        for rows, what in (
            (missing, f"rows whose {own!r} is no file below {files.root}"),
            (empty, f"rows without {own!r}"),
        ):
            some = [_cell(table, own, row) for row in rows[:_NAMED]]
            more = ", ..." if len(rows) > _NAMED else ""
            lines += [f"{field}: {then}: {what}: {len(rows)} ({', '.join(some)}{more})"] if rows else []
    kept = np.array([bool(path) for path in paths[IMAGE]], bool)
    if not kept.any():
        raise ConfigError(field, ConfigError.ABSENT, f"has no row with a picture; {'; '.join(lines)}")
    found = {name: np.array([path or b"" for path in column[kept]], object) for name, column in paths.items()}
    return (table.rows(np.flatnonzero(kept)), found), lines


def _cell(table: Arrays, column: str, row: int) -> str:
    value = table.arrays[column][row]
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    return f"{table.where(row)}: {text}" if text else table.where(row)


def _opened(
    config: SourceConfig, options: Options, rows: Mapping[str, tuple[Arrays, Mapping[str, np.ndarray]]], field: str
) -> dict[str, TableOfImages]:
    """The splits of these rows and paths, pictures of the depth of the first split's first."""
    names = (IMAGE, *options.masks)
    first = rows[TRAIN if TRAIN in rows else next(iter(rows))][1]
    of_targets = pictures.make_targets(config, names)
    shape = options.shape or (None, None, options.channels)
    stored = {}
    for name in names:
        everywhere = [path for paths in (first, *(own for _, own in rows.values())) for path in paths[name]]
        path = next((path for path in everywhere if path), None)
        if path is None:
            raise ConfigError(f"{field}.options.masks", name, "names no picture in any row")
        spec = tf.TensorSpec(shape if name == IMAGE else (*shape[:2], 1), pictures.channel_type(os.fsdecode(path)))
        stored[name] = Stored(first[name], spec, name in of_targets, None if all(everywhere) else path)
    opened = {}
    for name, (table, paths) in rows.items():
        of_split = {each: dataclasses.replace(stored[each], paths=paths[each]) for each in names}
        split = TableOfImages(table, of_split, options)
        opened[name] = split.without_undecodable() if config.undecodable == "skip" else split
    return opened
