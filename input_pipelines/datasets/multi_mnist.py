"""Two handwritten digits in one picture, made from TFDS's `mnist` (MultiMNIST, https://arxiv.org/abs/1710.09829).

As in Sener and Koltun 2018 (https://arxiv.org/abs/1810.04650): two digits of 28 x 28 in opposite corners of 36 x 36
pixels, the brighter pixel where they overlap; both are to be read. The source digits are split before they are paired,
so no digit of a training picture is in one to validate on.
"""

import numpy as np

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.examples import Examples
from input_pipelines.sources import catalogue
from trainer.common import schema

_SIDE, _DIGIT = 36, 28
_PAIRING_SEED = 0


def load(data_dir: str | None = None) -> dict[str, Examples]:
    """The pictures, as many as `mnist` has digits: 60,000 to train on, 10,000 to validate on.

    Inputs: the picture, 36 x 36 x 1, 0 to 1. Targets: `left` and `right`, the class of the digit above left and of the
    one below right.

    Raises:
      NotPreparedError: TFDS's `mnist` is not prepared.
    """
    settings = {"name": "tfds/mnist", "data_dir": data_dir, "splits": {TRAIN: "train", VALIDATION: "test"}}
    opened = catalogue.open_splits(schema.record(SourceConfig)(settings, "dataset"), "dataset")
    return {name: _paired(split) for name, split in opened.items()}


def _paired(split: catalogue.CatalogueSplit) -> Examples:
    chunks = list(split.chunks(["image", "label"]))
    images, labels = (np.concatenate([chunk[name] for chunk in chunks]) for name in ("image", "label"))
    partners = np.random.RandomState(_PAIRING_SEED).permutation(len(images))
    pictures = np.zeros((len(images), _SIDE, _SIDE, 1), np.uint8)
    pictures[:, :_DIGIT, :_DIGIT] = images
    below_right = pictures[:, _SIDE - _DIGIT :, _SIDE - _DIGIT :]
    np.maximum(below_right, images[partners], out=below_right)
    return Examples(pictures.astype(np.float32) / 255, {"left": labels, "right": labels[partners]})
