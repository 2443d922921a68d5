"""A comparison that all tests of this folder share: two methods, two seeds, 40 steps; a third method cannot run."""

import dataclasses
import pathlib
import subprocess

import pytest

from tests import config_files, forked

# Beside what makes it small: `famo` needs the whole batch once more after an update, which micro-batches forbid it.
TREE = {
    "steps": 40,
    "batch_size": 16,
    "micro_batches": 2,
    "report_every": 10,
    "eval_every": 20,
    "dataset": {"name": "tests.problems:load"},
    "model": {
        "trunk": [{"layer": "Dense", "units": 4, "activation": "tanh"}],
        "heads": {"label": [{"layer": "Dense", "units": 4}], "number": [{"layer": "Dense", "units": 1}]},
    },
    "losses": {
        "label": {
            "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
            "metrics": ["accuracy"],
        },
        "number": {"loss": "mse", "weight": 2.0, "metrics": ["mae"]},
    },
    "optimizer": {"name": "adam", "learning_rate": 0.02},
    "best": {"metric": "label/accuracy"},
}
METHODS, SEEDS = ("sum", "pcgrad"), (0, 1)
REFUSED = "famo"


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison that has ended.

    Attributes:
      workdir: its directory. Whoever changes it changes a copy.
      config: the file of its configuration.
      flags: those of the command, in its order.
      result: what the command printed, and its exit code.
    """

    workdir: pathlib.Path
    config: pathlib.Path
    flags: tuple[str, ...]
    result: subprocess.CompletedProcess


@pytest.hookimpl(tryfirst=True)  # before the suite skips what is for CI
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that look at the comparison for CI: it takes as long as a dozen other tests."""
    for item in items:
        if "compared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ci_only)


@pytest.fixture(scope="session")
def compared(tmp_path_factory, root) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    config, workdir = folder / "config.py", folder / "all"
    config.write_text(config_files.text(TREE))
    methods = ",".join((*METHODS, REFUSED))
    flags = (f"--config={config}", f"--combine={methods}", "--seeds=2", f"--workdir={workdir}")
    return Compared(workdir, config, flags, forked.run("trainer.compare", *flags, cwd=root))
