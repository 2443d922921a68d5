"""Default runs on the digits, each in a process of its own, forked from one that has imported everything."""

import json
import multiprocessing
import os
import pathlib
import tempfile

from rich.console import Console

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainer.command_line import DEFAULT_CONFIG  # noqa: E402
from trainer.config import loading
from trainer.distributed import strategy  # noqa: E402  (the variable is read on import)
from trainer.run import train

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def run(combine: str, seed: int, virtual_devices: int | None = None) -> dict[str, float]:
    """The final validation results of one default run."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        process = _PROCESSES.Process(target=_train, args=(combine, seed, virtual_devices, str(workdir)))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"--combine={combine} --config.seed={seed} ended with exit code {process.exitcode}")
        return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def _train(combine: str, seed: int, virtual_devices: int | None, workdir: str) -> None:
    config = loading.load(DEFAULT_CONFIG, [("seed", str(seed))], combine=combine)
    train.train(config, workdir, strategy.build("mirrored", virtual_devices), Console(quiet=True))
