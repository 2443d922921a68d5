"""Pictures in a folder, whichever way they lie in it; of a class where that is needed."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.remembered import Remembered
from input_pipelines.rows.rows import FIELD, OfSource
from input_pipelines.sources import encoded_pictures, folders, image_folder, pictures
from input_pipelines.sources.image_folder import Folder, Options
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown

_LABEL = "label"


def open_rows(config: SourceConfig, field: str, path: str, preparation: Preparation, kept: Remembered) -> OfSource:
    """The rows of a picture, or of all in a folder and those within, sorted by path.

    Args:
      config: the run's source, which says how pictures are read.
      field: the configuration's key of it.
      path: the picture or folder; of `<class>/<picture>` where the preparation needs labels.
      preparation: of the rows.
      kept: the training split: its classes, the depth and the size of its pictures.

    Raises:
      ConfigError: there is none, or one is of no class of the run.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    if not os.path.exists(path):
        raise ConfigError(FIELD, path, "does not exist")
    root, below = (path, list(folders.below(path))) if os.path.isdir(path) else os.path.split(path)
    if isinstance(below, str):
        below = [below]
    is_labelled = _LABEL in preparation.features
    files = sorted(each for each in below if image_folder.left_out_as(each, of_class=is_labelled) is None)
    if not files:
        where = "<class>/<picture>" if is_labelled else "picture"
        raise ConfigError(FIELD, path, f"holds no {where} ({', '.join(encoded_pictures.ENDINGS)})")
    names = tuple(kept.classes[_LABEL])
    labels = _labels(files, names, path) if is_labelled else np.zeros(len(files), np.int64)
    spec = tf.TensorSpec(options.shape or (None, None, options.channels), kept.unsized["image"].dtype)
    indices = "image" in pictures.make_targets(config, tuple(kept.features))
    folder = Folder(root or os.curdir, tuple(files), labels, names, spec, options, indices)
    return OfSource(folder.resized(kept.sizes) if kept.sizes else folder)


def _labels(files: Sequence[str], names: Sequence[str], path: str) -> np.ndarray:
    found = [file.split(os.sep)[0] for file in files]
    for name in found:
        if name not in names:
            raise unknown(FIELD, path, "class (the run does not have it)", names, name=name)
    return np.array([names.index(name) for name in found], np.int64)
