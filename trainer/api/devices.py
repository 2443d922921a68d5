"""The devices that a caller asks for, by a word or as a strategy of TensorFlow's."""

import tensorflow as tf

from trainer.common.errors import ConfigError, unknown
from trainer.distributed import strategy as strategy_lib
from trainer.distributed import usable_gpus

_STRATEGIES = ("mirrored", "one_device")


def chosen(given: str | tf.distribute.Strategy, virtual_devices: int | None, allow_cpu: bool) -> tf.distribute.Strategy:
    """Returns the strategy, as `trainer.train` takes it; raises ConfigError where it cannot be used."""
    if isinstance(given, tf.distribute.Strategy):
        if virtual_devices is not None:
            raise ConfigError("virtual_devices", virtual_devices, "is for strategy='mirrored', which is made of them")
        if len(strategy_lib.workers(given)[1]) > 1:
            reason = "is of several workers, which python -m trainer.main --strategy=multi_worker trains on"
            raise ConfigError("strategy", type(given).__name__, reason)
        return given
    check_name(given)
    usable_gpus.check(given, virtual_devices=virtual_devices, allow_cpu=allow_cpu)
    return strategy_lib.build(given, virtual_devices)


def check_name(given: str) -> None:
    """Raises ConfigError for a word that is no strategy of one process."""
    if given not in _STRATEGIES:
        raise unknown("strategy", given, "strategy", _STRATEGIES)
