"""The converters of other formats print at length, also about what they then do otherwise; here they are quiet."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

_LOGGERS = ("tensorflow", "tf2onnx")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops, for the time of the context, what is written to descriptor 2, these packages' messages, and warnings."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
        os.dup2(original, 2)
        os.close(original)
        os.close(null)
