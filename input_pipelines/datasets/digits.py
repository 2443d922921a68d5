"""scikit-learn's handwritten digits (1,797 images of 8 x 8) as a TFDS dataset with several targets.

https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

from input_pipelines.configuration import TRAIN, VALIDATION
from input_pipelines.examples import Examples
from trainer.common import schema
from trainer.common.errors import ConfigError, first_line

_TRAINING_EXAMPLES = 1437
_LARGEST_PIXEL = 16


class Digits(tfds.core.GeneratorBasedBuilder):
    """The digits with fixed splits: 1,437 to train on, 360 held out, shuffled once for all."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 43 writers, 8 x 8 pixels of 0 to 16.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "digit": tfds.features.ClassLabel(num_classes=10),
                    "ink": tfds.features.Scalar(dtype=np.float32),
                }
            ),
            supervised_keys=("image", "digit"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the data come with scikit-learn
        images, labels = sklearn.datasets.load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(images))
        return {
            TRAIN: self._generate_examples(images, labels, order[:_TRAINING_EXAMPLES]),
            VALIDATION: self._generate_examples(images, labels, order[_TRAINING_EXAMPLES:]),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            image = images[index].reshape(8, 8, 1)
            yield (
                int(index),
                {
                    "image": image.astype(np.uint8),
                    "digit": int(labels[index]),
                    "ink": np.float32(image.mean() / _LARGEST_PIXEL),
                },
            )


def load(data_dir: str | None = None, targets: Sequence[str] = ("digit", "image", "ink")) -> dict[str, Examples]:
    """The digits, prepared below `data_dir` (default: TFDS's own) on first use.

    Inputs: the image, 8 x 8 x 1, 0 to 1. The targets to choose from, per image:

      digit: class, 0 to 9.
      image: 8 x 8, 0 to 1.
      ink: mean of the pixels, one number.
      pixels: the image as a vector of 64.
      pair: class, 0 to 4: 0 or 1, 2 or 3, and so on.
      odd: class, 0 or 1.
      is_eight: a vector of one number, 1 for an eight (a tenth of the digits) and 0 otherwise.
      moments: covariance matrix, 2 x 2, of the ink's row and column, in squared pixels.

    Raises:
      ConfigError: the data cannot be prepared there, or there is no such target.
    """
    targets = schema.sequence(schema.choice("target", tuple(_TARGETS)))(targets, "dataset.options.targets")
    try:
        _prepare(data_dir)
        splits = {
            name: tfds.load("digits", data_dir=data_dir, split=name, batch_size=-1, download=False)
            for name in (TRAIN, VALIDATION)
        }
    except OSError as error:
        raise ConfigError(
            "dataset.data_dir", data_dir, f"cannot hold the prepared digits: {first_line(error)}"
        ) from error
    return {name: _examples(tfds.as_numpy(split), targets) for name, split in splits.items()}


def _prepare(data_dir: str | None) -> None:
    """Prepares the data unless they are there; of several processes that start at once, each finds them in the end."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(None):  # half a second's work; TFDS would announce a download that there is not
            Digits(data_dir=data_dir).download_and_prepare(file_format="tfrecord")
    except FileExistsError:
        if not Digits(data_dir=data_dir).is_prepared():  # else another process moved the same data into place first
            raise
    finally:
        tfds.enable_progress_bar()


def _examples(split: dict[str, np.ndarray], targets: Sequence[str]) -> Examples:
    inputs = split["image"].astype(np.float32) / _LARGEST_PIXEL
    digits = split | {"image": inputs[..., 0]}
    return Examples(inputs=inputs, targets={target: _TARGETS[target](digits) for target in targets})


def _moments(digits: dict[str, np.ndarray]) -> np.ndarray:
    """The covariance matrix of (row, column), every pixel weighted by its ink."""
    images = digits["image"]
    places = np.stack(np.indices(images.shape[1:], dtype=np.float32), axis=-1)
    shares = images / images.sum(axis=(1, 2), keepdims=True)
    means = np.einsum("nrc,rci->ni", shares, places)
    return np.einsum("nrc,rci,rcj->nij", shares, places, places) - np.einsum("ni,nj->nij", means, means)


# target → function of the arrays `image` (n, 8, 8; 0 to 1), `digit` and `ink`.
_TARGETS: Mapping[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {
    "digit": lambda digits: digits["digit"],
    "image": lambda digits: digits["image"],
    "ink": lambda digits: digits["ink"],
    "pixels": lambda digits: digits["image"].reshape(len(digits["image"]), -1),
    "pair": lambda digits: digits["digit"] // 2,
    "odd": lambda digits: digits["digit"] % 2,
    "is_eight": lambda digits: (digits["digit"] == 8).astype(np.float32)[:, np.newaxis],
    "moments": _moments,
}
