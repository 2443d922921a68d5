"""The tensors of a checkpoint as TensorFlow wrote them: their keys, kinds and values, without any variable."""

import pathlib
import re
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from trainer.common.errors import ConfigError

FIELD = "--workdir"
PREFIX = "variables"


def kind(variable: tf.Variable) -> str:
    """Type and shape of a variable."""
    return f"{variable.dtype.name}{variable.shape.as_list()}"


def kinds(folder: pathlib.Path) -> dict[str, str]:
    """Type and shape of everything in a checkpoint, by `key`."""
    saved = tf.train.load_checkpoint(str(folder / PREFIX))
    dtypes = saved.get_variable_to_dtype_map()
    return {key: f"{dtypes[key].name}{shape}" for key, shape in saved.get_variable_to_shape_map().items()}


def key(part: str, name: str) -> str:
    """TensorFlow's key of a variable, with these characters as it writes them."""
    return f"{part}/{name.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def values(folder: pathlib.Path, part: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Name → its value in a part of a checkpoint, of whatever shape; raises ConfigError where it lacks one."""
    saved = tf.train.load_checkpoint(str(folder / PREFIX))
    for name in names:
        if not saved.has_tensor(key(part, name)):
            reason = f"does not hold this run's variables: {part} {name} is missing in the checkpoint"
            raise ConfigError(FIELD, str(folder), reason)
    return {name: saved.get_tensor(key(part, name)) for name in names}


def part(folder: pathlib.Path, part_: str) -> dict[str, np.ndarray]:
    """Name → value of everything in a part of a checkpoint, sorted; empty where it has no such part."""
    saved = tf.train.load_checkpoint(str(folder / PREFIX))
    found = {}
    for each in sorted(saved.get_variable_to_shape_map()):
        if match := re.fullmatch(rf"{re.escape(part_)}/([^/]*)/\.ATTRIBUTES/VARIABLE_VALUE", each):
            name = re.sub(r"\.([S.])", lambda escaped: "/" if escaped[1] == "S" else ".", match[1])
            found[name] = saved.get_tensor(each)
    return found
