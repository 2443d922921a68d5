"""Every combination method by name. A method's entry stands below its functions, in the file that this table names.

Needs no TensorFlow, so that `--help` and configuration errors are instant. A method of the user's own is imported when
it is resolved, not before.
"""

from collections.abc import Callable, Mapping
from typing import Any

from trainer.combine import user_function
from trainer.combine.entry import LooksAt, Method
from trainer.combine.methods import (
    aligned_mtl,
    bargaining,
    cagrad,
    dual_cone,
    dwa,
    elements,
    equal_cosines,
    famo,
    gradnorm,
    gradvac,
    linear,
    log_losses,
    mgda,
    moving_averages,
    normalized,
    pcgrad,
    two_batches,
    uncertainty,
)
from trainer.common import import_paths
from trainer.common.errors import ConfigError, unknown

# A pass per loss is needed for all others.
ONE_PASS = (LooksAt.NOTHING, LooksAt.LOSSES)

# In the order in which --help and tables list them: by what they look at.
METHODS: Mapping[str, Method] = {
    # nothing but their own constants
    "sum": linear.SUM,
    "weighted": linear.WEIGHTED,
    "mean": linear.MEAN,
    "random": linear.RANDOM,
    "independent": linear.INDEPENDENT,
    # the losses' values
    "uncertainty": uncertainty.UNCERTAINTY,
    "dwa": dwa.DWA,
    "geometric": log_losses.GEOMETRIC,
    "log_sum": log_losses.LOG_SUM,
    "smooth_tchebycheff": log_losses.SMOOTH_TCHEBYCHEFF,
    "famo": famo.FAMO,
    # the Gramian
    "gradnorm": gradnorm.GRADNORM,
    "normalized": normalized.NORMALIZED,
    "pcgrad": pcgrad.PCGRAD,
    "gradvac": gradvac.GRADVAC,
    "mgda": mgda.MGDA,
    "cagrad": cagrad.CAGRAD,
    "imtl_g": equal_cosines.IMTL_G,
    "config": equal_cosines.CONFIG,
    "nash_mtl": bargaining.NASH_MTL,
    "fair_grad": bargaining.FAIR_GRAD,
    "aligned_mtl": aligned_mtl.ALIGNED_MTL,
    "dual_proj": dual_cone.DUAL_PROJ,
    "upgrad": dual_cone.UPGRAD,
    # the Gramian of two halves of the batch
    "sdmgrad": two_batches.SDMGRAD,
    "modo": two_batches.MODO,
    # the Gramian of moving averages of the gradients
    "moco": moving_averages.MOCO,
    "db_mtl": moving_averages.DB_MTL,
    # single elements
    "graddrop": elements.GRADDROP,
    "trimmed_mean": elements.TRIMMED_MEAN,
}


def check_name(value: Any, field: str) -> str:
    """The name of a method, or the import path of a function of the user's own, which is not imported here.

    Raises:
      ConfigError: it is neither.
    """
    if isinstance(value, str) and (value in METHODS or import_paths.is_path(value)):
        return value
    raise unknown(field, value, "combination", [*METHODS, "package.module:function"])


def resolve(
    name: str | Callable[..., Any],
    options: Mapping[str, object],
    *,
    field: str = "combine.name",
    options_field: str = "combine.options",
) -> tuple[Method, Mapping[str, object]]:
    """The method that a name and its options select, and the options left for its functions.

    Args:
      name: a method's name; or a function of the user's own, itself or by its import path.
      options: checked already, but for those of a function of the user's own.
      field: the key or argument that holds the name, for errors.
      options_field: that of the options of a function of the user's own.

    Raises:
      ConfigError: the user's function cannot be imported, or cannot be a method with these options.
    """
    options = dict(options)
    if callable(name) or name not in METHODS:
        function = name if callable(name) else import_paths.load(name, field)
        return user_function.method(function, options, field=field, options_field=options_field), options
    method = METHODS[name]
    for option, variant in METHODS[name].variants.items():
        if options.pop(option, False):
            method = variant
    return method, options


def check_count(name: str, options: Mapping[str, object], count: int) -> None:
    """Raises ConfigError where a method cannot combine `count` losses, or an option has not a number for each."""
    for option, value in options.items():
        if isinstance(value, list | tuple) and len(value) != count:
            raise ConfigError(
                f"combine.{name}.{option}",
                value,
                f"must hold one number for each of the {count} losses, in their order",
            )
    least = METHODS[name].least_losses(options)
    if count < least:
        key = next(iter(options))
        raise ConfigError(f"combine.{name}.{key}", options[key], f"takes at least {least} losses; there are {count}")
