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
_MISSING = re.compile(r"Could not load dynamic library '([^']+)'; dlerror: (?:\1: )?([^;\n]*)")
_DRIVERS = "libcuda.so.1"
_INITIAL = re.compile(r".*failed call to cuInit: (.+)", re.IGNORECASE)
_ERROR = re.compile(r"^[EW]\d{4} [^\]]*\] (.+)", re.MULTILINE)


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


def reason_in(log: str, visible: str | None = None) -> str:
    """Returns why there are no GPUs, from what TensorFlow logs while it looks for them.

    Args:
      log: all lines, those of the loader too.
      visible: CUDA_VISIBLE_DEVICES, where it is set.
    """
    missing = dict(_MISSING.findall(log))
    of_driver, initial, errors = missing.pop(_DRIVERS, None), _INITIAL.findall(log), _ERROR.findall(log)
    reasons = []
    if of_driver is not None:
        reasons.append(f"cannot load {_DRIVERS}, which the driver brings ({of_driver})")
    elif initial:
        reasons.append(
            f"cuInit fails: {initial[-1]}" + ("" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})")
        )
    if missing:
        why = "; ".join(dict.fromkeys(missing.values()))
        reasons.append(f"cannot load {', '.join(missing)}, which launch/requirements-gpu.lock installs ({why})")
    if not reasons:
        reasons.append(errors[-1] if errors else "it does not say why (TF_CPP_MIN_LOG_LEVEL=0 shows its messages)")
    return "; ".join(reasons)


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
    return reason_in(result.stderr, os.environ.get("CUDA_VISIBLE_DEVICES"))
