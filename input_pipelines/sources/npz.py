"""NPZ files (`numpy.savez`): every array is a feature, its first axis counts the examples."""

import functools
import zipfile
import zlib

import numpy as np

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.registry import FILES
from input_pipelines.sources import source
from input_pipelines.sources.source import Arrays
from trainer.common.errors import ConfigError, first_line, unknown

_WIDEST_NUMBER = 8  # bytes


def open_splits(config: SourceConfig, field: str) -> dict[str, Arrays]:
    """The splits of `config.splits`, one file each; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing or is not NPZ; arrays of different lengths, or of what is neither number nor
        text; or splits with other arrays.
    """
    if config.options:
        raise unknown(f"{field}.options", config.options, "option", (), name=next(iter(config.options)))
    files = source.find(config, field, FILES["npz"])
    opened = {}
    for name, (path, *more) in files.items():
        at = f"{field}.splits.{name}"
        if more:
            raise ConfigError(at, config.splits.get(name, "*.npz"), f"names {1 + len(more)} files; an NPZ split is one")
        opened[name] = read_file(path, at)
    train = opened.get(TRAIN) or next(iter(opened.values()))
    for name, split in opened.items():
        for feature, spec in train.features.items():
            at = f"{field}.splits.{name}"
            if feature not in split.features:
                raise unknown(at, files[name][0], f"file without array {feature!r}", split.features, name=feature)
            given = split.features[feature]
            if (given.shape, given.dtype) != (spec.shape, spec.dtype):
                raise ConfigError(
                    at,
                    files[name][0],
                    f"array {feature!r} is {given.dtype.name}{list(given.shape)} per example, in the training split "
                    f"{spec.dtype.name}{list(spec.shape)}",
                )
    return opened


def read_file(path: str, field: str) -> Arrays:
    """The arrays of a file; raises ConfigError, for the key `field`, where it is none or they do not go together."""
    arrays = {}
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is a single array without a name (NPY); numpy.savez writes several")
        with loaded as file:
            for name in file.files:
                arrays[name] = _readable(file[name], name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(field, path, f"is no readable NPZ file: {first_line(error)}") from error
    if not arrays:
        raise ConfigError(field, path, "holds no array")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ConfigError(field, path, f"has arrays of different lengths: {shown}")
    if not next(iter(lengths.values())):
        raise ConfigError(field, path, "holds no example")
    return Arrays(arrays, functools.partial(_where, path))


def _readable(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 0:
        raise ValueError(f"array {name!r} is a single value; it must have an entry for each example")
    if array.dtype.kind in "US":
        text = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
        return text.astype(object)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > _WIDEST_NUMBER:
        raise ValueError(f"array {name!r} is of type {array.dtype}; it must be of numbers (up to 64 bits) or text")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _where(path: str, index: int) -> str:
    return f"{path}, example {index}"
