"""GPUs that a machine has and TensorFlow cannot use: refused with the loader's reason, instead of a run on the CPU."""

import os
import re
import subprocess
import sys

import tensorflow as tf

from trainer.common import visible_gpus
from trainer.common.errors import ConfigError, first_line

_SECONDS = 120  # that a process may take to import TensorFlow and to look for GPUs
_LOOK = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"
# TensorFlow's loader of CUDA's libraries says which of them it lacks at this level only.
_TALKATIVE = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "dso_loader=1"}
_LIBRARY = re.compile(r"Could not load dynamic library '([^']+)'; dlerror: (?:\1: )?([^;\n]*)")
_DRIVER = re.compile(r"failed call to cuInit: (.+)", re.IGNORECASE)
_NO_DRIVER = "Could not find cuda drivers"


def check(strategy: str, *, virtual_devices: int | None, allow_cpu: bool) -> None:
    """Refuses the CPU where nobody asked for it; call it before anything touches a device.

    It is asked for by `allow_cpu`, by virtual devices, and by an environment that hides all GPUs
    (`CUDA_VISIBLE_DEVICES` empty or -1).

    Args:
      strategy: the name that `--strategy` has.
      virtual_devices: into this number of logical devices the CPU is to be split; None: not.
      allow_cpu: whether the CPU will do although there are GPUs.

    Raises:
      ConfigError: nvidia-smi lists GPUs and TensorFlow none; with the reason, which takes seconds to find.
    """
    if allow_cpu or virtual_devices is not None or tf.config.list_physical_devices("GPU"):
        return
    count = visible_gpus.listed()
    if count and visible_gpus.visible(os.environ):
        gpus = f"{count} GPU{'s' * (count > 1)}"
        reason = f"nvidia-smi lists {gpus}, but TensorFlow can use none: {_reason()}; --allow_cpu runs on the CPU"
        raise ConfigError("--strategy", strategy, reason)


def reason_in(log: str) -> str:
    """Returns why there are no GPUs, from what TensorFlow logs while it looks for them."""
    missing = dict(_LIBRARY.findall(log))
    driver = _DRIVER.findall(log)
    reasons = []
    if _NO_DRIVER in log:
        reasons.append("the driver's library libcuda.so.1 cannot be loaded")
    if driver:
        reasons.append(f"the driver answers: {driver[-1].strip()}")
    if missing:
        why = "; ".join(dict.fromkeys(missing.values()))
        reasons.append(f"cannot load {', '.join(missing)} ({why}), which launch/requirements-gpu.lock installs")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None and not missing:
        reasons.append(f"CUDA_VISIBLE_DEVICES is {given}")
    return "; ".join(reasons) or "it does not say why (TF_CPP_MIN_LOG_LEVEL=0 shows its messages)"


def _reason() -> str:
    """Asks another process: this one's TensorFlow has been loaded, and is silent."""
    if not tf.sysconfig.get_build_info().get("is_cuda_build"):
        return "it is built without CUDA"
    try:
        result = subprocess.run(
            [sys.executable, "-c", _LOOK],
            env={**os.environ, **_TALKATIVE},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"it cannot be asked why ({first_line(error)})"
    return reason_in(result.stderr)
