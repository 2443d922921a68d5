"""The README's table of results: every combination on the digits, mean of three seeds, each run a process of its own.

python -m tests.benchmarks.digits
python -m tests.benchmarks.digits --virtual_devices=2 --combine=weighted
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from trainer.combine.registry import METHODS

_COMBINE = flags.DEFINE_list("combine", list(METHODS), "Combinations to run.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
_VIRTUAL_DEVICES = flags.DEFINE_integer("virtual_devices", None, "Passed on to the runs.", lower_bound=1)

_COLUMNS = {"digit accuracy": "digit/accuracy", "redraw (error per pixel)": "redraw/mae", "ink (error)": "ink/mae"}


def run(combine: str, seed: int, virtual_devices: int | None = None) -> tuple[dict[str, float], float]:
    """One default run; returns its final validation results and the seconds the whole process took."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "trainer.main", f"--workdir={workdir}", f"--combine={combine}"]
        command += [f"--config.seed={seed}"] + ([f"--virtual_devices={virtual_devices}"] if virtual_devices else [])
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        last = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()[-1]
    return json.loads(last), seconds


def main(argv: list[str]) -> None:
    """Prints the table in Markdown, a row as soon as it is known."""
    del argv
    print(f"| `--combine` | {' | '.join(_COLUMNS)} | seconds |\n| --- |{' ---: |' * (len(_COLUMNS) + 1)}")
    for combine in _COMBINE.value:
        results = [run(combine, seed, _VIRTUAL_DEVICES.value) for seed in range(_SEEDS.value)]
        means = {key: sum(values[key] for values, _ in results) / len(results) for key in _COLUMNS.values()}
        cells = [f"{100 * means['digit/accuracy']:.2f} %", f"{means['redraw/mae']:.4f}", f"{means['ink/mae']:.4f}"]
        print(f"| `{combine}` | {' | '.join(cells)} | {max(seconds for _, seconds in results):.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
