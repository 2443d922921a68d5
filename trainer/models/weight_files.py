"""Values in Keras' files of weights, `.weights.h5` and `.keras`, by names as a run gives them to variables.

A file is read as numbers: no layer that it names is made, and no code that it names is called.

It says how layers lie within one another and what each is called, and numbers the variables of a layer:
`encoder/dense_1/0`. A layer of a model or in a list has the name of `models/names.py`: its own, or the class and a
number where Keras chose the name. In a dictionary, too, as the file does not have its keys. One that is an attribute of
another layer goes by the attribute: the file does not say whether its name or class is a user's.
"""

import io
import pathlib
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
from keras.src.saving import saving_lib

from trainer.common.errors import ConfigError, first_line
from trainer.models import names
from trainer.models.recomputation import Recomputed

ARCHIVE, WEIGHTS = ".keras", ".weights.h5"
_WITHIN_ARCHIVE = "model.weights.h5"
_VALUES, _LAYERS, _OPTIMIZER = "vars", "layers", "optimizer"  # names of groups in a file
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

    A layer's path in a run may stand for that in the file, where no other layer has it there. Variables of a layer that
    writes something else than its variables have no name.
    """
    named = {id(variable): name for name, variable in names.variables_by_name(model).items()}
    places = _places(model)
    written = _named({place: layer.name for place, layer in places.items()})
    found = {}
    for path, layer in (
        *{"": model, **names.layers_by_name(model)}.items(),
        *((written[place], layer) for place, layer in places.items()),
    ):
        values: dict[str, object] = {}
        layer.save_own_variables(values)
        for key, variable in values.items():
            if id(variable) in named:
                found[f"{path}/{key}".lstrip("/")] = named[id(variable)]
    return found


def _places(model: keras.Model) -> dict[_Place, keras.layers.Layer]:
    """The layers of a model by the places at which Keras would save them; each once, where it comes first.

    Layers that are computed again in the backward pass are where they would be if they were not.
    """
    places: dict[_Place, keras.layers.Layer] = {}
    seen: set[int] = set()

    def visit(layer: keras.layers.Layer, place: _Place) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        places[place] = layer
        for attribute, value in saving_lib._walk_saveable(layer):
            for within, part in _parts(attribute, value):
                visit(part, (*place, *within))

    visit(model, ())
    return places


def _parts(called: str, value: Any) -> Iterator[tuple[_Place, keras.layers.Layer]]:
    """The layers in a value, to any depth of lists and dictionaries, and where Keras saves them below its parent."""
    if isinstance(value, keras.layers.Layer):
        yield (called,), value
    elif isinstance(value, list | dict | tuple):
        counts: Counter[str] = Counter()
        for entry in _entries(value.values() if isinstance(value, dict) else value):
            is_list = isinstance(entry, list | dict | tuple)
            kind = "container" if is_list else names.name_for_class(type(entry).__name__)
            own = kind if not counts[kind] else f"{kind}_{counts[kind]}"
            counts[kind] += 1
            yield from (((called, *within), layer) for within, layer in _parts(own, entry))


def _entries(container: Iterable[Any]) -> Iterator[Any]:
    for entry in container:
        if isinstance(entry, Recomputed):
            yield from _entries(entry.inner.layers)
        else:
            yield entry


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


def _named(layers: Mapping[_Place, str | None]) -> dict[_Place, str]:
    """Place → name of every layer, by what the layers are called themselves."""
    named: dict[_Place, str] = {(): ""}
    given: Counter[str] = Counter()  # how many layers of a class have a name that Keras did not choose
    for place in sorted(set(layers) - {()}, key=_in_order):
        parent = next(place[:end] for end in reversed(range(len(place))) if place[:end] in layers or end == 0)
        *container, own = place[len(parent) :]
        path = "/".join(filter(None, (named[parent], *container[container[:1] == [_LAYERS] :])))
        if container and layers[place] is not None:
            kind, number = _kind_and_number(own)
            if re.fullmatch(rf"{re.escape(kind)}(_\d+)?", layers[place]):
                # A number that is missing is of a layer that comes elsewhere, too: it counts here.
                number -= given[f"{path}/{kind}"]
                own = f"{kind}_{number}" if number else kind
            else:
                given[f"{path}/{kind}"] += 1
                own = layers[place]
        named[place] = f"{path}/{own}".lstrip("/")
    return named


def _in_order(place: _Place) -> list[tuple[str, int]]:
    """A key that sorts `dense_10` behind `dense_2`, and layers behind those that they are in."""
    return [_kind_and_number(part) for part in place]


def _kind_and_number(part: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)(?:_(\d+))?", part)
    return found[1], int(found[2] or 0)
