"""Checks of what a prediction is asked for, before anything is loaded; needs no TensorFlow."""

import pathlib

from trainer.common.errors import ConfigError

CSV = ".csv"
ENDINGS = (".parquet", CSV, ".npz")


def check_rows(split: str | None, data: object) -> None:
    """Raises ConfigError unless one of a split and other data is given."""
    if split is None and data is None:
        raise ConfigError(
            "--split", ConfigError.ABSENT, "is missing: a split of the run, or --data with a file or folder"
        )
    if split is not None and data is not None:
        raise ConfigError("--split", split, "cannot be beside --data: one of them says which rows")


def output(given: str, base: pathlib.Path, *, overwrite: bool) -> pathlib.Path:
    """Returns the path of a file to write.

    Args:
      given: its name.
      base: the folder in which a relative one is.
      overwrite: whether one that is there may be replaced.

    Raises:
      ConfigError: it has another ending, is there already, or its folder is not.
    """
    path = base / given
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError("--output", given, f"must end in {', '.join(ENDINGS)}")
    try:
        if not path.parent.is_dir():
            raise ConfigError("--output", given, "is in a folder that does not exist")
        if path.is_dir() or path.is_symlink():
            raise ConfigError("--output", given, "is a folder or a link, not a file")
        if path.exists() and not overwrite:
            raise ConfigError("--output", given, "exists; --overwrite replaces it")
    except OSError as error:
        raise ConfigError("--output", given, f"cannot be used: {error.strerror}") from error
    return path
