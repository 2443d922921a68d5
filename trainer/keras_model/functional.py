"""The functional form of a model's class: a class of its own, so that the class itself can be subclassed, too.

Keras makes a subclass of `keras.Model` functional by putting `Functional` among the bases of the class, in place;
after that no other subclass of it works.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
from keras.src.models.functional import Functional
from keras.src.models.model import functional_init_arguments
from keras.src.saving import object_registration


def is_functional_call(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """True where a model's constructor is called with inputs and outputs."""
    return functional_init_arguments(arguments, named)


def make_functional(model: keras.Model) -> None:
    """Gives `model`, whose construction has just begun, the functional form of its class, unless it has it already."""
    if not isinstance(model, Functional):
        object.__setattr__(model, "__class__", _functional_form(type(model)))


@functools.cache
def _functional_form(cls: type[keras.Model]) -> type[keras.Model]:
    """A subclass of `cls` and of Keras' functional models with the name of `cls`, by which files name it, too."""
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    form = type(cls)(cls.__name__, (cls, Functional), namespace)
    # Registering it in the public way would make it what this name means when a file is loaded.
    object_registration.GLOBAL_CUSTOM_NAMES[form] = keras.saving.get_registered_name(cls)
    return form


def graph(model: keras.Model) -> tuple[Any, Any] | None:
    """Symbolic inputs and outputs of a functional or built sequential model, in their structures; of another one None.

    A functional model whose class has a `call` of its own counts as another one.
    """
    if isinstance(model, keras.Sequential):
        return (model.inputs[0], model.outputs[0]) if model.built and model.inputs else None
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model.input, model.output
    return None
