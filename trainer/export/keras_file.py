"""The plain Keras model in a `.keras` file, which Keras alone loads."""

import pathlib

from trainer.common.errors import ConfigError, first_line
from trainer.export.trained import Trained
from trainer.models import plain_layers


def write(trained: Trained, path: pathlib.Path) -> None:
    """Writes the model to a file; raises ConfigError for one that Keras cannot save."""
    try:
        plain_layers.of(trained.model).save(path)
    except Exception as error:  # of layers of the user's own
        raise ConfigError("--format", "keras", f"cannot save the model: {first_line(error)}") from error


def calls(trained: Trained, output: str) -> list[str]:
    """Lines of Markdown that say how the model is called."""
    needed = plain_layers.others(plain_layers.of(trained.model))
    custom = (
        [f"Layers of the user's own come from {', '.join(needed)}, which must be imported first.", ""] if needed else []
    )
    one = "inputs" if not isinstance(trained.spec, dict) else "{name: array, ...}"
    return [
        *custom,
        "In Python, with Keras alone:",
        "",
        "```python",
        "import keras",
        "",
        f"model = keras.saving.load_model({output!r})",
        f"heads = model({one}, training=False)",
        "```",
    ]
