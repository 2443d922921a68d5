"""The rows of a table that names pictures: every one of them must have its picture."""

import dataclasses

import tensorflow as tf

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.remembered import Remembered
from input_pipelines.rows import array_rows, rows
from input_pipelines.rows.rows import FIELD, OfSource
from input_pipelines.sources import split_tables, table_of_images
from input_pipelines.sources.pictured_rows import TableOfImages
from input_pipelines.sources.table_of_images import Options
from trainer.common import schema
from trainer.common.errors import ConfigError


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> OfSource:
    """The rows of a table; its pictures lie as those of the run's table do, seen from the table's own folder.

    Args:
      config: the run's source, which says how table and pictures are read.
      field: the configuration's key of it.
      path: the table.
      preparation: of the rows.
      kept: the training split: the depth and the size of its pictures.

    Raises:
      ConfigError: the table cannot be read, lacks a column, or a row has no picture.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    masks = [name for name in options.masks if name in preparation.features]
    chosen = {**config.options, "masks": masks, "split_column": None}
    ours = dataclasses.replace(
        config, path=path, splits={}, held_out=None, fold=None, undecodable="stop", options=chosen
    )
    whole = split_tables.read(ours, options.table, None, FIELD).splits[TRAIN]
    opened = table_of_images.open_splits(ours, FIELD)[TRAIN]
    if len(opened) < len(whole):
        raise ConfigError(FIELD, path, f"has {len(whole) - len(opened)} rows without a picture: {opened.notes[0]}")
    rows.check_there(preparation, list(opened.features), path)
    stored = {
        name: dataclasses.replace(each, spec=_spec_of(name, opened, kept)) for name, each in opened.stored.items()
    }
    types = {name: column for name, column in rows.needed(preparation).items() if name not in stored}
    table = array_rows.as_in_training(opened.table, types, path)
    return OfSource(TableOfImages(table, stored, options, kept.sizes))


def _spec_of(name: str, opened: TableOfImages, kept: Remembered) -> tf.TensorSpec:
    """The specification of pictures, as deep as in training; of those that a row may lack as they are found."""
    spec, dtype = opened.stored[name].spec, kept.unsized[name].dtype
    return spec if dtype == tf.int64 else tf.TensorSpec(spec.shape, dtype)
