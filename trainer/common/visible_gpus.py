"""GPUs of this machine, as its driver lists them and as the environment shows them to a program."""

import re
import subprocess
from collections.abc import Mapping


def visible(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that a program with this environment sees, as CUDA_VISIBLE_DEVICES names them."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(listed())]
    names = [name.strip() for name in given.split(",")]
    # CUDA ignores what comes after a name that is no device.
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:end]


def listed() -> int:
    """Returns the number of GPUs that nvidia-smi lists; 0 where there is no nvidia-smi."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(re.findall(r"^GPU \d+:", listing, re.MULTILINE))
