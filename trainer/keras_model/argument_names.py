"""Errors of the parts that the command line has, too, under the names of the arguments of `compile` and `fit`."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from trainer.common.errors import ConfigError

# Keys of a configuration → arguments.
_ARGUMENTS = {
    r"losses\.<name>\.weight": "loss_weights",
    r"losses\.(.+)\.weight": r"loss_weights.\1",
    r"losses\.(.+)\.class_weights": r"class_weight.\1",
    r"losses\.(.+)\.target": r"y.\1",
    r"losses\.(.+?)(\.loss|\.head)?": r"loss.\1",
    r"dataset\.weights\.(.+)": r"sample_weight.\1",
    r"combine\.apply": "apply",
    r"combine\.[^.]+\.(.+)": r"combine.\1",
}
_JIT_COMPILE = "jit_compile"
_AS_ARGUMENT = ("leave it 'off'", "leave it False")
_NOT_COMPILED = "unsupported operations when trying to compile"  # in a message of TensorFlow's


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Within this context a ConfigError names an argument, and so does what XLA cannot compile; also a decorator."""
    try:
        yield
    except ConfigError as error:
        for key, argument in _ARGUMENTS.items():
            if found := re.fullmatch(key, error.field):
                raise ConfigError(found.expand(argument), error.value, error.allowed) from error
        if error.field == "compile":
            raise ConfigError(_JIT_COMPILE, True, error.allowed.replace(*_AS_ARGUMENT)) from error
        raise
    except tf.errors.InvalidArgumentError as error:
        if _NOT_COMPILED in str(error):
            allowed = "must be False or 'auto': XLA cannot compile an operation of the model, or of a loss"
            raise ConfigError(_JIT_COMPILE, True, allowed) from error
        raise
