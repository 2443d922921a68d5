"""The rows of TFRecord files, of which those features are read that are needed."""

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.registry import FILES
from input_pipelines.remembered import Remembered
from input_pipelines.rows import rows
from input_pipelines.rows.rows import FIELD, OfSource
from input_pipelines.sources import pictures, record_files
from input_pipelines.sources.record_files import Part
from input_pipelines.sources.tfrecord import Options, RecordFiles
from trainer.common import schema


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> OfSource:
    """The rows of a file, or of those in a folder, sorted by name.

    Args:
      config: the run's source, which describes the features.
      field: the configuration's key of it.
      path: the file or folder.
      preparation: not needed: a record that lacks a feature is an error when it is read.
      kept: the training split, whose pictures have a size.

    Raises:
      ConfigError: there is no such file, or it is cut off.
    """
    del preparation
    features = schema.record(Options)(config.options, f"{field}.options").features
    parts = [Part(each) for each in rows.files_at(path, FILES["tfrecord"])]
    blocks = record_files.blocks(parts, config.window, FIELD)
    targets = pictures.make_targets(config, tuple(features))
    return OfSource(RecordFiles(blocks, features, kept.sizes, targets=targets))
