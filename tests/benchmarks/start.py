"""The lines of the table on what comes before the first step."""

import json
import operator
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.processes import ROOT
from tests.benchmarks.timing import ratio
from tests.benchmarks.workers import WorkerError

_START_SECONDS = 120
_PHASES = ("configuration", "imports", "data and model", "tracing", "first call")


def start() -> Section:
    in_turn = {
        "describe": lambda: _seconds("-m", "trainer.describe"),
        "first step in turn": _seconds_to_first_step,
    }

    def numbers(keys: Sequence[str]) -> dict[str, float | Exception]:
        found: dict[str, float | Exception] = {}
        if "help" in keys:
            found["help"] = statistics.median(_seconds_of_help() for _ in range(5))
        if "first step" in keys:
            found["first step"] = _seconds_to_first_step()
        if set(keys) & set(_PHASES):
            found |= _phases()
        for what, seconds in in_turn.items():
            if what in keys:
                found |= _beside_imports(what, seconds)
        return found

    bounds = (
        Bound("help", "`--help`", ("help",), operator.itemgetter("help"), "≤", 0.5, "s"),
        Bound("first_step", "command to first step", ("first step",), operator.itemgetter("first step"), "≤", 12, "s"),
        Bound(
            "describe",
            "`trainer.describe`, of `import tensorflow, keras`",
            ("describe", "imports, describe"),
            ratio("describe", "imports, describe"),
            "≤",
            1.8,
        ),
        Bound(
            "first_step_over_imports",
            "command to first step, of `import tensorflow, keras`",
            ("first step in turn", "imports, first step in turn"),
            ratio("first step in turn", "imports, first step in turn"),
            "≤",
            1.8,
        ),
        *(
            Bound(
                f"first_step_{phase.replace(' ', '_')}",
                f"of which {phase}",
                (phase,),
                lambda s, p=phase: s[p],
                unit="s",
            )
            for phase in _PHASES
        ),
    )
    return Section("start", bounds, numbers, unit="s")


def _seconds_of_help() -> float:
    return _seconds("-m", "trainer.main", "--help")


def _beside_imports(what: str, seconds: Callable[[], float | Exception]) -> dict[str, float | Exception]:
    """The median of three times, and of those of the imports alone, measured in turn; an error ends it."""
    measured, imports = [], []
    for _ in range(3):
        measured.append(seconds())
        if isinstance(measured[-1], Exception):
            return dict.fromkeys((what, f"imports, {what}"), measured[-1])
        imports.append(_seconds("-c", "import tensorflow, keras"))
    return {what: statistics.median(measured), f"imports, {what}": statistics.median(imports)}


def _seconds(*arguments: str) -> float:
    """Seconds that a command of Python takes."""
    start = time.monotonic()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, **streams)
    return time.monotonic() - start


def _seconds_to_first_step() -> float | Exception:
    """Returns the seconds until the report of the first step is there, with the default configuration."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        command = [sys.executable, "-m", "trainer.main", f"--workdir={workdir}", "--config.steps=1"]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while time.monotonic() < start + _START_SECONDS and process.poll() is None:
                with_rows = workdir / "metrics.jsonl"
                if with_rows.exists() and with_rows.stat().st_size:
                    return time.monotonic() - start
                time.sleep(0.01)
            return WorkerError(f"{' '.join(command)} made no first step")
        finally:
            process.kill()
            process.wait()


def _phases() -> dict[str, float | Exception]:
    command = [sys.executable, "-m", "tests.benchmarks.first_step", str(time.monotonic())]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        return dict.fromkeys(_PHASES, WorkerError(f"{' '.join(command)} ended with code {process.returncode}"))
    return dict(zip(_PHASES, json.loads(process.stdout.splitlines()[-1]), strict=True))
