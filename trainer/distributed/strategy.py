"""`--strategy` and devices → a `tf.distribute.Strategy`. Everything that depends on the kind of device is here."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from trainer.common.errors import ConfigError, RunError, first_line, reason_of
from trainer.distributed.cluster import Cluster
from trainer.gradients import layout as layouts
from trainer.gradients.layout import Layout

# The first GPUs with fast arithmetic for it: Volta and Ampere. https://www.tensorflow.org/guide/mixed_precision
_NEEDED_CAPABILITY = {"mixed_float16": (7, 0), "mixed_bfloat16": (8, 0)}
# All that NcclManager of TensorFlow 2.21 takes (kValidDataTypes); it fails in the first step that sums anything else.
_SUMMED_BY_NCCL = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64)
_first_keys = itertools.count(10**8, 10**5)  # of collectives, for each strategy more than any model has


def build(name: str, virtual_devices: int | None = None, cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """Builds the strategy; call it before anything else touches a device.

    Args:
      name: `mirrored` (all GPUs, else the CPU), `one_device` (the first GPU, else the CPU) or `multi_worker` (the
        same of every worker in the cluster; a worker without GPUs has one device).
      virtual_devices: split this machine's CPU into this number of logical devices and mirror over those, even where
        there are GPUs; None: do not.
      cluster: the workers, for `multi_worker`; it waits until all of them are there.

    Raises:
      ConfigError: virtual devices with another strategy, or after TensorFlow has laid out its devices in another way;
        workers with different numbers of GPUs, or after TensorFlow has run operations.
      RunError: the workers cannot be connected.
    """
    if virtual_devices is not None and name != "mirrored":
        raise ConfigError("--virtual_devices", virtual_devices, "needs --strategy=mirrored")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Take memory as it is needed, so that other processes can share the device.
        tf.config.experimental.set_memory_growth(gpu, True)
    if name == "multi_worker":
        return _multi_worker(cluster, len(gpus))
    if virtual_devices is not None:
        devices = _virtual_cpus(virtual_devices)
    elif gpus:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
    else:
        devices = ["/device:CPU:0"]
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(devices[0])
    # The default cross-device operations are NCCL where all devices are GPUs, a ring between CPUs.
    return _mirrored(devices)


def hide_gpus() -> None:
    """Keeps this process off the GPUs, which may be at work; call it before anything else touches a device.

    Raises:
      ConfigError: there are GPUs, and TensorFlow has run operations already.
    """
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:  # "cannot be modified after being initialized"
        raise _too_late(error) from error


def feed(
    strategy: tf.distribute.Strategy, pipeline: Callable[[tf.distribute.InputContext], tf.data.Dataset]
) -> Iterable[Any]:
    """A pipeline's elements, for every replica its own, waiting on its device when the step asks for them.

    Args:
      strategy: where they go.
      pipeline: the elements of the replicas of a `tf.distribute.InputContext`, one per replica and step, in that order.
    """
    if is_one_cpu(strategy):
        # They are there already; handing them from iterator to iterator would take longer than a small step.
        return pipeline(tf.distribute.InputContext())
    options = tf.distribute.InputOptions(experimental_fetch_to_device=True)
    return strategy.distribute_datasets_from_function(pipeline, options)


def is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """True where there is a single replica, on a CPU."""
    return strategy.num_replicas_in_sync == 1 and _device_type(strategy) == "CPU"


def workers(strategy: tf.distribute.Strategy) -> tuple[int, tuple[str, ...]]:
    """Returns this process's rank and all workers' addresses; 0 and one empty address where there is one process."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, ("",)
    resolver = strategy.cluster_resolver
    return resolver.task_id, tuple(resolver.cluster_spec().as_dict()["worker"])


def first_replica(strategy: tf.distribute.Strategy) -> int:
    """The number of this worker's first replica, counted over all workers."""
    rank, _ = workers(strategy)
    return rank * len(strategy.extended.worker_devices) if rank else 0


def solver_device(strategy: tf.distribute.Strategy) -> str | None:
    """Returns the device for K x K problems: the CPU where replicas are GPUs; None for the replica's own.

    Its many small operations, and loops whose condition the host must know, would each wait for a launch on a GPU.
    """
    return None if _device_type(strategy) == "CPU" else "/device:CPU:0"


def layout(strategy: tf.distribute.Strategy) -> Layout:
    """Returns the layout of gradients that suits the replicas' devices."""
    return layouts.CPU if _device_type(strategy) == "CPU" else layouts.GPU


def only_device(strategy: tf.distribute.Strategy) -> str:
    """Returns the device of a strategy's single replica."""
    try:
        return strategy.extended.worker_devices[0]
    except RuntimeError:  # TensorFlow's default strategy, which has not been told of any
        return f"/device:{_device_type(strategy)}:0"


def half_precision_warning(strategy: tf.distribute.Strategy, precision: str) -> str | None:
    """Returns a line of warning where these devices gain no speed in `precision`; else None."""
    if not precision.startswith("mixed_"):
        return None
    if _device_type(strategy) != "GPU":
        return f"precision={precision!r}: CPUs have little hardware for it, so this run will be slower, not faster."
    needed = _NEEDED_CAPABILITY[precision]
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        capability = details.get("compute_capability")
        if capability is not None and capability < needed:
            return (
                f"precision={precision!r}: {details.get('device_name', gpu.name)} has compute capability "
                f"{capability[0]}.{capability[1]}, below {needed[0]}.{needed[1]}, so this run saves memory but no time."
            )
    return None


def set_kernels(*, tensor_float_32: bool, deterministic: bool) -> None:
    """Tells TensorFlow which kernels all operations have that run after this; call it before anything is built.

    Args:
      tensor_float_32: whether GPUs may round the factors of float32 products to 10 bits.
      deterministic: whether only operations are taken that give the same bits each time; for the rest of the process.
    """
    tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def check_summed(strategy: tf.distribute.Strategy, dtype: tf.DType, field: str, value: str, instead: str) -> None:
    """Refuses a type that the replicas cannot sum, before a step fails.

    Args:
      strategy: the replicas.
      dtype: of what they are to sum.
      field: the setting that makes it so.
      value: of that setting.
      instead: the advice.

    Raises:
      ConfigError: several replicas are GPUs, and NCCL does not take this type.
    """
    if strategy.num_replicas_in_sync > 1 and _device_type(strategy) == "GPU" and dtype not in _SUMMED_BY_NCCL:
        allowed = ", ".join(each.name for each in _SUMMED_BY_NCCL)
        raise ConfigError(field, value, f"GPUs cannot sum {dtype.name}: TensorFlow's NCCL takes {allowed}; {instead}")


def _mirrored(devices: list[str]) -> tf.distribute.Strategy:
    """Mirrors over devices with keys of collectives that no other strategy of this process has.

    TensorFlow counts keys anew in every strategy, and refuses one that was used for other devices or shapes before.
    """

    class Mirrored(tf.distribute.MirroredStrategy):
        _collective_key_base = next(_first_keys)

    return Mirrored(devices)


def _multi_worker(cluster: Cluster, gpus: int) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.rank,
        rpc_layer="grpc",
        num_accelerators={"GPU": gpus} if gpus else {},
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, _communication(gpus))
    except tf.errors.OpError as error:
        where = cluster.addresses[cluster.rank]
        raise RunError(f"worker {cluster.rank} ({where}) cannot join the others: {reason_of(error)}") from error
    except RuntimeError as error:  # "must be configured at program startup"
        raise _too_late(error) from error
    _check_same_number(strategy)
    # Every worker's pipeline gives the same number of elements, so that none must ask the others whether they have one.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


def _too_late(error: RuntimeError) -> ConfigError:
    """The error where devices can no longer be laid out, because TensorFlow has run operations."""
    reason = f"must run none of TensorFlow's operations while it is read: {first_line(error)}"
    return ConfigError("configuration", ConfigError.ABSENT, reason)


def _check_same_number(strategy: tf.distribute.Strategy) -> None:
    """TensorFlow takes every worker to have as many devices as this one."""
    kind = _device_type(strategy)
    devices = (tf.DeviceSpec.from_string(device.name) for device in tf.config.list_logical_devices(kind))
    counts = Counter(device.task for device in devices)
    if len(set(counts.values())) > 1:
        found = ", ".join(f"worker {task}: {count}" for task, count in sorted(counts.items()))
        raise ConfigError("--strategy", "multi_worker", f"needs the same number of {kind}s everywhere, not {found}")


def _communication(gpus: int) -> tf.distribute.experimental.CommunicationOptions:
    """NCCL between GPUs, which "auto" is not: it is TensorFlow's own ring over gRPC."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if gpus else kinds.AUTO)


def _device_type(strategy: tf.distribute.Strategy) -> str:
    try:
        return tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    except RuntimeError:  # TensorFlow's default strategy, which has not been told of any
        return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


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
