"""Division of a machine's GPUs among its workers."""

import re
import subprocess
from collections.abc import Mapping

from trainer.common.errors import ConfigError


def visible(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that a program with this environment sees, as CUDA_VISIBLE_DEVICES names them."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(_listed())]
    names = [name.strip() for name in given.split(",")]
    # CUDA ignores what comes after a name that is no device.
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:end]


def divided(gpus: list[str], workers: int, per_worker: int | None) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each worker; None where it stays as it is.

    Args:
      gpus: the names of those that there are.
      workers: how many workers share them; all get the same number.
      per_worker: that number; by default all GPUs are divided.

    Raises:
      ConfigError: there are too few, or they cannot be divided evenly.
    """
    if per_worker is None:
        if workers == 1 or not gpus:
            return [None] * workers
        if len(gpus) % workers:
            reason = f"must divide the number of GPUs, {len(gpus)}; or give --gpus_per_worker, which may be 0"
            raise ConfigError("--workers", workers, reason)
        per_worker = len(gpus) // workers
    if workers * per_worker > len(gpus):
        reason = f"for {workers} workers needs {workers * per_worker} GPUs; there are {len(gpus)}"
        raise ConfigError("--gpus_per_worker", per_worker, reason)
    return [",".join(gpus[rank * per_worker : (rank + 1) * per_worker]) for rank in range(workers)]


def _listed() -> int:
    """Returns the number of GPUs that nvidia-smi lists; 0 where there is no nvidia-smi."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d+:", listing, re.MULTILINE))
