"""Names of a model's variables by their place in it, so that every build of the same model gives the same names.

Keras' own paths (`dense_3/kernel`) count the layers that the process has made before.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from trainer.common.errors import ConfigError
from trainer.models.recomputation import Recomputed

_SEEDS = "seed_generator_state"
# A layer, with where its parent holds it: in no container, or within lists and dictionaries of these names; then what
# it is called there, by the parent's dictionary.
_Held = tuple[tuple[str, ...], str | None, keras.layers.Layer]


def variables_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """A model's variables by unique names that depend on nothing but the model, in the model's order.

    A name is the path to a variable, `encoder/dense_1/kernel`. A layer that the user named goes by that name. A name
    that Keras chose (the layer's class and a count) is replaced: by the layer's key where a dictionary holds it, else
    by its class and its number among those of its parent, as in Keras' files of weights: `dense`, `dense_1`. Layers
    in a list or a dictionary come below the attribute's name. A layer in several places is named for the first. Layers
    that are computed again in the backward pass are named as if they were not.

    States of random layers are left out: every step sets them.

    Raises:
      ConfigError: two variables have the same name.
    """
    names: dict[int, str] = {}
    _name(model, (), names, set())
    named: dict[str, keras.Variable] = {}
    for variable in model.variables:
        if _is_seed(variable):
            continue
        name = names[id(variable)]
        if name in named:
            raise ConfigError("model", name, "is the name of two variables; name them or their layers apart")
        named[name] = variable
    return named


def layer_state_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """A model's variables that its layers change by themselves, such as moving statistics, as `variables_by_name`.

    They are those that a layer has made as not trainable; weights of a frozen layer are not among them.
    """
    own = {id(variable) for layer in model._flatten_layers() for variable in layer._non_trainable_variables}
    return {name: variable for name, variable in variables_by_name(model).items() if id(variable) in own}


def layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """A model's layers, however deep, by the names that they have in those of their variables; each once."""
    found: dict[str, keras.layers.Layer] = {}
    seen: set[int] = set()

    def add(parent: keras.layers.Layer, path: tuple[str, ...]) -> None:
        for where, layer in parts_of(parent):
            if id(layer) not in seen:
                seen.add(id(layer))
                found["/".join((*path, *where))] = layer
                add(layer, (*path, *where))

    add(model, ())
    return found


def parts_of(parent: keras.layers.Layer) -> list[tuple[tuple[str, ...], keras.layers.Layer]]:
    """The layers that a layer consists of, each once, with the paths that they have in their variables' names."""
    parts, taken = [], set()
    counts: Counter[tuple[str, ...]] = Counter()
    for container, key, layer in _held_by(parent):
        if id(layer) in taken:
            continue
        taken.add(id(layer))
        automatic = _automatic(layer, parent)
        if automatic is None:
            own = layer.name
        elif key is not None:
            own = key
        else:
            own = _numbered((*container, automatic), counts)
        parts.append(((*container, own), layer))
    return parts


def name_for_class(name: str) -> str:
    """The name that Keras chooses for an object of a class of this name, without a count."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def slots_by_name(
    optimizer: keras.optimizers.Optimizer, variables: Mapping[str, keras.Variable]
) -> dict[str, keras.Variable]:
    """An optimizer's variables by unique names, in its own order.

    A variable that it keeps for one of the model's is named for that one and the optimizer's attribute,
    `dense/kernel/momentums`; its other variables for their attributes alone, `iterations`.

    Args:
      optimizer: the optimizer.
      variables: the variables that it was built for, in that order, by name.
    """
    places: dict[int, str] = {}
    for attribute, value in vars(optimizer).items():
        if attribute == "_variables" or attribute.startswith("_self_"):  # Keras' and TensorFlow's lists of them all
            continue
        own = attribute.strip("_")
        if isinstance(value, list) and len(value) == len(variables):
            for name, slot in zip(variables, value, strict=True):
                places.setdefault(id(slot), f"{name}/{own}")
        places.setdefault(id(value), own)
    named: dict[str, keras.Variable] = {}
    for variable in optimizer.variables:
        # One that an optimizer of the user's own keeps elsewhere; there the order must tell.
        name = places.get(id(variable)) or _automatic(variable) or variable.name
        several = (name, *(f"{name}_{count}" for count in range(1, len(named) + 1)))
        named[next(each for each in several if each not in named)] = variable
    return named


def _name(layer: keras.layers.Layer, path: tuple[str, ...], names: dict[int, str], seen: set[int]) -> None:
    """Names the variables of a layer, then those of its parts, except those that have a name already."""
    seen.add(id(layer))
    parts = parts_of(layer)
    of_parts = {id(variable) for _, part in parts for variable in part.variables}
    counts: Counter[tuple[str, ...]] = Counter()
    for variable in layer.variables:
        if id(variable) not in of_parts and not _is_seed(variable):
            automatic = _automatic(variable)
            own = variable.name if automatic is None else _numbered((automatic,), counts)
            names.setdefault(id(variable), "/".join((*path, own)))
    for where, part in parts:
        if id(part) not in seen:
            _name(part, (*path, *where), names, seen)


def _held_by(parent: keras.layers.Layer) -> Iterator[_Held]:
    """A layer's parts in the order in which its code gives them to it."""
    tracked = parent._flatten_layers(include_self=False, recursive=False)
    missing = {id(layer) for layer in tracked}
    if not missing:
        return
    for container, key, layer in _everything_in(parent, tracked):
        if id(layer) in missing:
            yield from _seen_through(container, key, layer)
            missing.remove(id(layer))
            if not missing:  # the rest may be long lists of anything
                return


def _everything_in(parent: keras.layers.Layer, tracked: Sequence[keras.layers.Layer]) -> Iterator[_Held]:
    if isinstance(parent, keras.Function | keras.Sequential):
        yield from _within(parent.layers, ())
    for attribute, value in vars(parent).items():
        if isinstance(value, keras.layers.Layer):
            yield (), None, value
        elif attribute != "_layers" and not attribute.startswith("_self_"):  # Keras' and TensorFlow's lists of all
            yield from _within(value, (attribute,))
    yield from _within(tracked, ())


def _within(container: Any, path: tuple[str, ...]) -> Iterator[_Held]:
    """The layers within lists and dictionaries, to any depth."""
    by_key = isinstance(container, dict)
    if not by_key and not isinstance(container, list | tuple):
        return
    for key, entry in container.items() if by_key else enumerate(container):
        if isinstance(entry, keras.layers.Layer):
            yield path, str(key) if by_key else None, entry
        else:
            yield from _within(entry, (*path, str(key)))


def _seen_through(container: tuple[str, ...], key: str | None, layer: keras.layers.Layer) -> Iterator[_Held]:
    """The layer, or those that it only computes again: how a run computes may change when it is resumed."""
    if isinstance(layer, Recomputed):
        for inner in layer.inner.layers:
            yield from _seen_through(container, None, inner)
    else:
        yield container, key, layer


def _automatic(named: Any, parent: keras.layers.Layer | None = None) -> str | None:
    """The name that Keras chooses for a layer or variable, without its count; None where the user chose another."""
    own = name_for_class(type(named).__name__)
    # Keras names the two layers of a Bidirectional for the one that it was given.
    prefixes = ("", "forward_", "backward_") if isinstance(parent, keras.layers.Bidirectional) else ("",)
    automatic = (f"{prefix}{own}" for prefix in prefixes)
    return next((each for each in automatic if re.fullmatch(rf"{re.escape(each)}(_\d+)?", named.name)), None)


def _numbered(path: tuple[str, ...], counts: Counter[tuple[str, ...]]) -> str:
    """Returns the last part of a path: as it is when the path first comes, then with 1, 2, ... behind it."""
    counts[path] += 1
    return path[-1] if counts[path] == 1 else f"{path[-1]}_{counts[path] - 1}"


def _is_seed(variable: keras.Variable) -> bool:
    return variable.path.endswith(_SEEDS)
