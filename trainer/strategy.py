"""`--strategy` and devices → a `tf.distribute.Strategy`. Everything that depends on the kind of device is here."""

import contextlib

import tensorflow as tf

from trainer.errors import ConfigError


def build(name: str, virtual_devices: int | None = None) -> tf.distribute.Strategy:
    """Builds the strategy; call it before anything else touches a device.

    Args:
      name: `mirrored` (all GPUs, else the CPU) or `one_device` (the first GPU, else the CPU).
      virtual_devices: split this machine's CPU into so many logical devices and mirror over those, GPUs or not.

    Raises:
      ConfigError: virtual devices with another strategy, or after TensorFlow has laid out its devices in another way.
    """
    if virtual_devices is not None and name != "mirrored":
        raise ConfigError("--virtual_devices", virtual_devices, "needs --strategy=mirrored; one_device has one device")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Take memory as it is needed, so that other processes can share the device.
        tf.config.experimental.set_memory_growth(gpu, True)
    if virtual_devices is not None:
        devices = _virtual_cpus(virtual_devices)
    elif gpus:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
    else:
        devices = ["/device:CPU:0"]
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(devices[0])
    # The default cross-device operations are NCCL where all devices are GPUs, a ring between CPUs.
    return tf.distribute.MirroredStrategy(devices)


def _virtual_cpus(count: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    with contextlib.suppress(RuntimeError):  # devices are laid out already; enough of them will do
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(names) < count:
        raise ConfigError(
            "--virtual_devices", count, f"this process has laid out {len(names)} logical CPU devices already"
        )
    return names[:count]
