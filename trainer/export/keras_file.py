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
