"""Every combination method by name. A method's entry stands below its functions, in the file that this table names.

Needs no TensorFlow, so that `--help` and configuration errors are instant.
"""

from collections.abc import Mapping

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
from trainer.common.errors import ConfigError

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


def resolve(name: str, options: Mapping[str, object]) -> tuple[Method, Mapping[str, object]]:
    """The method that `name` and its options select, and the options left for its functions."""
    method, options = METHODS[name], dict(options)
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
