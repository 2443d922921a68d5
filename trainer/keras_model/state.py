"""Values of a training besides the variables and the optimizer of its model, as a part of Keras' files."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.saving.keras_saveable import KerasSaveable

_SLOT = "optimizer {name} {index}"


class TrainingState(KerasSaveable):
    """The variables that later steps read and the optimizers beside the model's own, by names in a file.

    They exist once training has been built. Values that are loaded before that wait until then. It is no layer and no
    part of the model's variables, so that files of plain models load without it, and plain models load files with it.
    """

    def __init__(self) -> None:
        self._variables: _Variables | None = None
        self._waiting: _Values | None = None

    def attach(self, variables: Mapping[str, Any], optimizers: Mapping[str, keras.optimizers.Optimizer]) -> None:
        """Takes charge of the variables of a training that was just built; they get the values there are for them.

        Args:
          variables: name → variable that later steps read.
          optimizers: name of an optimizer beside the model's own → the optimizer, built.
        """
        if self._variables is not None:
            self._waiting = _Values(self._variables.values())
        self._variables = _Variables(variables, optimizers)
        if self._waiting is not None:
            self._variables.assign(self._waiting.by_name)
            self._waiting = None

    def forget(self) -> None:
        """Starts anew, without variables and values."""
        self._variables = self._waiting = None

    def save_own_variables(self, store: Any) -> None:
        """Writes the values to a part of a file that Keras gives."""
        if self._variables is not None:
            values = self._variables.values()
        else:
            values = {} if self._waiting is None else self._waiting.by_name
        for name, value in values.items():
            store[name] = value

    def load_own_variables(self, store: Any) -> None:
        """Reads the values from a part of a file; one without them changes nothing."""
        values = {name: np.array(store[name]) for name in store.keys()}  # noqa: SIM118 (Keras' stores need not iterate)
        if not values:
            return
        if self._variables is None:
            self._waiting = _Values(values)
        else:
            self._variables.assign(values)

    def _obj_type(self) -> str:
        """Keras' name for the kind of object, by which it looks for further parts: there are none."""
        return "Loss"


class _Values:
    """Values by name, hidden from Keras, which looks into dictionaries for further parts."""

    def __init__(self, by_name: Mapping[str, np.ndarray]):
        self.by_name = by_name


class _Variables:
    """Variables by their names in a file."""

    def __init__(self, variables: Mapping[str, Any], optimizers: Mapping[str, keras.optimizers.Optimizer]):
        found = dict(variables)
        for name, optimizer in optimizers.items():
            found |= {_SLOT.format(name=name, index=index): slot for index, slot in enumerate(optimizer.variables)}
        # A stroke would begin a folder in the file.
        self.by_name = {name.replace("/", "."): variable for name, variable in found.items()}

    def values(self) -> dict[str, np.ndarray]:
        return {name: tf.convert_to_tensor(variable).numpy() for name, variable in self.by_name.items()}

    def assign(self, values: Mapping[str, np.ndarray]) -> None:
        """Gives variables the values of their names; warns of one that has another shape."""
        for name in self.by_name.keys() & values.keys():
            variable, value = self.by_name[name], values[name]
            if tuple(variable.shape) == value.shape:
                variable.assign(value)
            else:
                warnings.warn(
                    f"{name!r} of the training's state starts anew: it has the shape {tuple(variable.shape)}, and what "
                    f"was saved {value.shape}",
                    stacklevel=2,
                )


def keep_from_keras(optimizer: keras.optimizers.Optimizer) -> None:
    """Leaves an optimizer of some variables to `TrainingState`: Keras would load it before it knows its variables."""
    optimizer.save_own_variables = optimizer.load_own_variables = lambda store: None
