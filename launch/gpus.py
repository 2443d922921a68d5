"""Division of a machine's GPUs among its workers."""

from trainer.common.errors import ConfigError


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
