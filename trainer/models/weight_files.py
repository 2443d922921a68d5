"""Values in Keras' files of weights, `.weights.h5` and `.keras`, by names as a run gives them to variables.

A file is read as numbers: no layer that it names is made, and no code that it names is called.

It says how layers lie within one another and what each is called, and numbers the variables of a layer:
`encoder/dense_1/0`. Layers have the names of `models/names.py`: their own, or the class and a number where Keras chose
the name; layers in a dictionary go by class and number, too, as the file does not have its keys.
"""

import io
import pathlib
import re
import zipfile
from collections import Counter

import h5py
import keras
import ml_dtypes
import numpy as np

from trainer.common.errors import ConfigError, first_line
from trainer.models import names

ARCHIVE, WEIGHTS = ".keras", ".weights.h5"
_WITHIN_ARCHIVE = "model.weights.h5"
_VALUES, _LAYERS, _OPTIMIZER = "vars", "layers", "optimizer"  # names of groups in a file
_MODELS = ("Functional", "Sequential", "Model")
_COUNT = re.compile(r"_\d+$")
_READING_ERRORS = (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile)

_Place = tuple[str, ...]  # of a layer in a file


def read(file: pathlib.Path, field: str, given: str) -> dict[str, np.ndarray]:
    """Returns all values in a file, by name; those of an optimizer are left out.

    Args:
      file: a file whose name ends with `ARCHIVE` or `WEIGHTS`.
      field: the key that names the file, for errors.
      given: its value.

    Raises:
      ConfigError: it cannot be read, or is none of these files.
    """
    try:
        with h5py.File(_unpacked(file) if file.name.endswith(ARCHIVE) else file, "r") as opened:
            return _values(opened)
    except _READING_ERRORS as error:
        kind = ARCHIVE if file.name.endswith(ARCHIVE) else WEIGHTS
        raise ConfigError(field, given, f"is no {kind} file that can be read: {first_line(error)}") from error


def names_in_files(model: keras.Model) -> dict[str, str]:
    """The name that a variable of a model has by `read` in a file of the model's layers → that which it has in a run.

    Variables of a layer that writes something else than its variables have none.
    """
    named = {id(variable): name for name, variable in names.variables_by_name(model).items()}
    found = {}
    for path, layer in {"": model, **names.layers_by_name(model)}.items():
        written: dict[str, object] = {}
        layer.save_own_variables(written)
        for key, variable in written.items():
            if id(variable) in named:
                found[f"{path}/{key}".lstrip("/")] = named[id(variable)]
    return found


def _unpacked(file: pathlib.Path) -> io.BytesIO:
    with zipfile.ZipFile(file) as archive:
        return io.BytesIO(archive.read(_WITHIN_ARCHIVE))


def _values(file: h5py.File) -> dict[str, np.ndarray]:
    layers: dict[_Place, str | None] = {}
    values: dict[tuple[_Place, str], np.ndarray] = {}

    def visit(path: str, found: h5py.Group | h5py.Dataset) -> None:
        *place, last = path.split("/")
        if place[:1] == [_OPTIMIZER]:
            return
        if last == _VALUES and isinstance(found, h5py.Group):
            layers[tuple(place)] = found.attrs.get("name")
        elif place[-1:] == [_VALUES] and isinstance(found, h5py.Dataset):
            values[tuple(place[:-1]), last] = _value(found)

    file.visititems(visit)  # visits no links to elsewhere
    if not values:
        raise ValueError("it holds no variables as Keras 3 saves them")
    named = _named(layers)
    return {f"{named[place]}/{key}".lstrip("/"): value for (place, key), value in values.items()}


def _value(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in another file")
    if dataset.attrs.get("dtype") == "bfloat16":
        return np.array(dataset, ml_dtypes.bfloat16)
    return np.array(dataset)


def _named(layers: dict[_Place, str | None]) -> dict[_Place, str]:
    """Place → name of every layer in a file."""
    named: dict[_Place, str] = {(): ""}
    counts: Counter[str] = Counter()
    for place in sorted(set(layers) - {()}, key=_in_order):
        parent = next(place[:end] for end in reversed(range(len(place))) if place[:end] in layers or end == 0)
        container, own = place[len(parent) : -1], layers[place]
        stem = _COUNT.sub("", place[-1]) if container else _class_of(own)
        path = "/".join(filter(None, (named[parent], *container[container[:1] == (_LAYERS,) :])))
        if own is None:
            own = place[-1]
        elif stem is not None and re.fullmatch(rf"{re.escape(stem)}(_\d+)?", own):
            kind = f"{path}/{stem}"
            own = stem if not counts[kind] else f"{stem}_{counts[kind]}"
            counts[kind] += 1
        named[place] = f"{path}/{own}".lstrip("/")
    return named


def _in_order(place: _Place) -> list[tuple[str, int]]:
    """A key that sorts `dense_10` behind `dense_2`, and layers behind those that they are in."""
    parts = (re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in place)
    return [(part[1], int(part[2] or 0)) for part in parts]


def _class_of(name: str | None) -> str | None:
    """The class of Keras' for which a layer seems to be named that its parent holds in an attribute; None: no such."""
    if name is None:
        return None
    stem = _COUNT.sub("", name)
    kind = re.sub("^(forward|backward)_", "", stem)
    known = {names.name_for_class(each) for each in (*dir(keras.layers), *_MODELS)}
    return stem if kind in known else None
