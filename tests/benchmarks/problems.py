"""Problems for the measurements: architectures as lists of layers with data for them, and gradients to combine.

Needs NumPy alone.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Problem:
    """A trunk with one-layer heads: the first classifies, the others are regressions of one number.

    Attributes:
      inputs: shape of one example.
      trunk: Keras layers by name with their arguments; Conv2D (`same`), MaxPooling2D, Flatten and Dense.
      heads: number of heads and losses, K.
      batch_size: examples of a step.
      examples: examples of the training split.
      missing: whether one example in five lacks the label of the last head.
    """

    inputs: tuple[int, ...]
    trunk: tuple[Mapping[str, Any], ...]
    heads: int
    batch_size: int
    examples: int = 4096
    missing: bool = False

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each trunk layer's kernel, outputs last; () where a layer has none."""
        shape, kernels = list(self.inputs), []
        for layer in self.trunk:
            kernel: tuple[int, ...] = ()
            match layer["layer"]:
                case "Conv2D":
                    kernel = (layer["kernel_size"], layer["kernel_size"], shape[-1], layer["filters"])
                    shape[-1] = layer["filters"]
                case "MaxPooling2D":
                    shape[:2] = shape[0] // 2, shape[1] // 2
                case "Flatten":
                    shape = [math.prod(shape)]
                case "Dense":
                    kernel = (shape[0], layer["units"])
                    shape = [layer["units"]]
            kernels.append(kernel)
        return tuple(kernels)

    @property
    def trunk_parameters(self) -> int:
        """Numbers in the trunk's kernels and biases."""
        return sum(math.prod(kernel) + kernel[-1] for kernel in self.kernels if kernel)

    @property
    def parameters(self) -> int:
        """Numbers in all kernels and biases, the heads' included."""
        return self.trunk_parameters + sum((self.trunk[-1]["units"] + 1) * width for width in self.widths)

    @property
    def plain(self) -> dict[str, Any]:
        """Its fields, as JSON holds them."""
        return dataclasses.asdict(self)

    @property
    def epoch(self) -> int:
        """Steps in which every example is seen."""
        return self.examples // self.batch_size

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of every head."""
        return (CLASSES, *(1 for _ in range(self.heads - 1)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the heads, their losses and targets."""
        return tuple(f"head_{k}" for k in range(self.heads))

    def arrays(self, examples: int | None = None) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs (float32), targets (int64 classes, then float32 numbers) and weights by head."""
        count = examples or self.examples
        random = np.random.RandomState(0)
        inputs = random.normal(size=(count, *self.inputs)).astype(np.float32)
        targets = {name: random.normal(size=(count, 1)).astype(np.float32) for name in self.names[1:]}
        targets = {self.names[0]: random.randint(0, CLASSES, count)} | targets
        present = np.arange(count) % 5 > 0
        return inputs, targets, {self.names[-1]: present.astype(np.float32)} if self.missing else {}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration file of the project's, changed.

    Attributes:
      config: its path from the project's root.
      overrides: dotted key → text, as on the command line.
    """

    config: str
    overrides: Mapping[str, str]

    @property
    def plain(self) -> dict[str, Any]:
        """Its fields, as JSON holds them."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Rows of normal numbers, one for each loss.

    Attributes:
      losses: number of rows, K.
      parameters: their length.
      dtype: a floating dtype's name; the numbers are those of float32 whatever it is.
    """

    losses: int
    parameters: int
    dtype: str = "float32"

    @property
    def plain(self) -> dict[str, Any]:
        """Its fields, as JSON holds them."""
        return dataclasses.asdict(self)

    def rows(self, seed: int = 0, *, conflict: bool = True) -> np.ndarray:
        """(K, n) random rows; with `conflict`, of different lengths, odd rows opposed to even ones."""
        random = np.random.default_rng([seed, self.losses, self.parameters])
        rows = random.standard_normal((self.losses, self.parameters), np.float32)
        if conflict:
            sides = np.where(np.arange(self.losses) % 2, -1, 1).astype(np.float32)[:, np.newaxis]
            lengths = np.exp(random.standard_normal((self.losses, 1), np.float32))
            rows += sides * random.standard_normal(self.parameters, np.float32)
            rows *= lengths
        return rows.astype(self.dtype)

    def gramians(self) -> np.ndarray:
        """(4, K, K), one after another with conflict and without."""
        several = [self.rows(seed, conflict=seed % 2 == 0) for seed in range(4)]
        return np.stack([rows @ rows.T for rows in several])


def _dense(units: int) -> dict[str, Any]:
    return {"layer": "Dense", "units": units, "activation": "relu"}


def _convolution(filters: int) -> dict[str, Any]:
    return {"layer": "Conv2D", "filters": filters, "kernel_size": 3, "padding": "same", "activation": "relu"}


def convolutional(heads: int, *, batch_size: int = 256) -> Problem:
    """Two convolutions and a dense layer on images of 28 x 28 pixels."""
    pool = {"layer": "MaxPooling2D"}
    trunk = (_convolution(16), pool, _convolution(32), pool, {"layer": "Flatten"}, _dense(128))
    return Problem((28, 28, 1), trunk, heads, batch_size)


def small(heads: int = 3) -> Problem:
    """Two small dense layers and small batches: what a step costs beside its kernels."""
    return Problem((32,), (_dense(64), _dense(64)), heads, batch_size=32)


def dense(width: int, *, heads: int = 3, layers: int = 3, batch_size: int = 8, missing: bool = False) -> Problem:
    """Dense layers of one width, inputs included: many parameters, little else."""
    return Problem((width,), (_dense(width),) * layers, heads, batch_size, examples=256, missing=missing)
