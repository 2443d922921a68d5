"""Check of the installation: devices and versions."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
from collections import Counter
from importlib import metadata

import keras
import tensorflow as tf

from trainer.selfcheck.outcome import CheckOutcome, Status

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def check(strategy: tf.distribute.Strategy) -> CheckOutcome:
    """Reports devices, versions, numbers of replicas and workers; `strategy.build` has compared the devices."""
    first = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0])
    replicas, local = strategy.num_replicas_in_sync, len(strategy.extended.worker_devices)
    workers = replicas // local
    what = _gpus() if first.device_type == "GPU" else _cpu()
    numbers = f"{_number(replicas, 'replica')} on {_number(workers, 'worker')}"
    return CheckOutcome(
        Status.PASS, f"{numbers}; {what}; {versions()}", same=f"{local} {first.device_type}, {versions()}"
    )


def versions() -> str:
    """The versions of Python, TensorFlow, Keras and, as far as it is known, what TensorFlow uses GPUs with."""
    found = [f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"]
    build = tf.sysconfig.get_build_info()
    if build.get("is_cuda_build"):
        cuda, cudnn = (build.get(name, "unknown") for name in ("cuda_version", "cudnn_version"))
        found.append(f"built for CUDA {cuda} and cuDNN {cudnn}")
    return ", ".join([*found, *_nccl_version()])


def _nccl_version() -> list[str]:
    """The version of the package that `tensorflow[and-cuda]` brings; TensorFlow does not say what it has loaded."""
    for distribution in metadata.distributions():
        if re.fullmatch(r"nvidia[-_]nccl[-_]cu\d+", distribution.metadata["Name"] or ""):
            return [f"NCCL {distribution.version}"]
    return []


def _gpus() -> str:
    """Every GPU of this worker, with what the driver says of their memory."""
    names = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ("unknown",))))
        names.append(f"{details.get('device_name', gpu.name)} (compute capability {capability})")
    counted = ", ".join(f"{count} x {name}" for name, count in Counter(names).items())
    return "; ".join([counted, *_driver()])


def _driver() -> list[str]:
    """Lines such as `NVIDIA L4, 23034 MiB, driver 550.54`, one for each kind that the machine has."""
    if shutil.which(_NVIDIA_SMI[0]) is None:
        return []
    try:
        text = subprocess.run(_NVIDIA_SMI, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"the machine has {count} x {line.strip()}" for line, count in Counter(text.splitlines()).items() if line]


def _cpu() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"CPU {_processor()}, {_number(cores, 'core')}, {memory:.3g} GiB"


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return " ".join(match[1].split()) if match else platform.machine()


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
