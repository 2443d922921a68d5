"""The plain Keras model in a `.keras` file, which Keras alone loads."""

import pathlib
from collections.abc import Mapping

from trainer.common.errors import ConfigError, first_line
from trainer.export.trained import Trained
from trainer.models import plain_layers

_OF_NO_FILE = "__main__:"


def write(trained: Trained, path: pathlib.Path) -> None:
    """Writes the model to a file; raises ConfigError for one that Keras cannot save."""
    if any(each.startswith(_OF_NO_FILE) or "<locals>" in each for each in needs(trained)):
        reason = "has layers of a class of your own that no module holds, so that nobody could load the file"
        raise ConfigError("--format", "keras", f"is no format for this run: its model {reason}")
    try:
        plain_layers.of(trained.model).save(path)
    except Exception as error:  # of layers of the user's own
        raise ConfigError("--format", "keras", f"cannot save the model: {first_line(error)}") from error


def needs(trained: Trained) -> list[str]:
    """Import paths of the layers of the user's own, without which nobody can load the file."""
    return plain_layers.others(plain_layers.of(trained.model))


def calls(trained: Trained, output: str) -> list[str]:
    """Lines of Markdown that say how the model is called."""
    own = [each.split(":") for each in needs(trained)]
    custom = ", custom_objects={" + ", ".join(f"{name!r}: {name}" for _, name in own) + "}" if own else ""
    one = "inputs" if not isinstance(trained.spec, Mapping) else "{name: array, ...}"
    return [
        f"In Python, with Keras {'and layers of your own' if own else 'alone'}:",
        "",
        "```python",
        "import keras",
        *(f"from {module} import {name}" for module, name in own),
        "",
        f"model = keras.saving.load_model({output!r}{custom})",
        f"heads = model({one}, training=False)",
        "```",
    ]
