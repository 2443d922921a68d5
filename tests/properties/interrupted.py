"""Training of runs that are interrupted and resume, and the results that must not depend on it."""

import dataclasses
import io
import json
import pathlib
import shutil

import tensorflow as tf
from rich.console import Console

from tests import config_files, problems
from tests.trainer.output import test_history
from trainer.common import atomic_files
from trainer.output import checkpoint, manifest, speed, tensorboard
from trainer.run import train as train_lib

INTERVALS = {"steps": 12, "report_every": 4, "eval_every": 6, "checkpoint_every": 5, "keep_checkpoints": 9}
STEPS = 600
_SPEED = tensorboard.tag(speed.PREFIX)
CONFIG = config_files.text(
    problems.tree(
        precision="float32", steps=STEPS, report_every=40, eval_every=100, checkpoint_every=11, steps_per_loop=5
    )
)


def train(path: pathlib.Path, replicas: int = 1, **changes) -> None:
    """Trains the small problem in this process."""
    console = Console(file=io.StringIO())
    train_lib.train(problems.config(**INTERVALS | changes), str(path), problems.strategy(replicas), console)


def results(path: pathlib.Path, step: int) -> dict[str, bytes | str]:
    """Returns all that must not depend on an interruption: reports, and every bit of the variables saved at a step."""
    return {"reports": (path / "metrics.jsonl").read_text(), **variables(path, step)}


def variables(path: pathlib.Path, step: int) -> dict[str, bytes]:
    """Every bit of the variables saved at a step."""
    reader = tf.train.load_checkpoint(str(path / "checkpoints" / f"step_{step:08d}" / "variables"))
    # The graph of objects names optimizers for how many the process has made.
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name).tobytes() for name in sorted(names)}


def everything(path: pathlib.Path) -> dict[str, object]:
    """All that a finished run leaves, as far as it must not depend on an interruption."""
    steps = checkpoint.saved_steps(path / "checkpoints")
    saved = {f"{name} at step {step}": bits for step in steps for name, bits in variables(path, step).items()}
    texts = {"metrics.jsonl": (path / "metrics.jsonl").read_text(), "report.md": report_without_time(path)}
    return {"checkpoints": steps, "events": values_of_events(path)} | texts | saved


def values_of_events(path: pathlib.Path) -> list[tuple[int, str, str, bytes]]:
    """All numbers that TensorBoard shows but for the speed, which differs from run to run."""
    found = []
    for file in (path / "tensorboard").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" and not value.tag.startswith(_SPEED):
                    found.append((event.step, file.parent.name, value.tag, tf.make_ndarray(value.tensor).tobytes()))
    return sorted(found)


def report_without_time(path: pathlib.Path) -> str:
    """A run's report.md up to its last section, of the time."""
    return (path / "report.md").read_text().partition("\n## Time\n")[0]


def forget_after(path: pathlib.Path, step: int) -> None:
    """Leaves a run as a kill would that had just saved a step."""
    for later in checkpoint.saved_steps(path / "checkpoints"):
        if later > step:
            shutil.rmtree(path / "checkpoints" / f"step_{later:08d}")


def accept_data(path: pathlib.Path) -> None:
    """Makes all checkpoints of a run rely on the `data.json` that is there."""
    for folder in (path / "checkpoints").iterdir():
        saved = dataclasses.replace(manifest.read(folder), data=atomic_files.checksum(path / "data.json"))
        (folder / manifest.NAME).write_text(saved.to_json())
        sums = json.loads((folder / "checksums.json").read_text())
        sums[manifest.NAME] = atomic_files.checksum(folder / manifest.NAME)
        (folder / "checksums.json").write_text(json.dumps(sums))


def assert_goes_on_exactly(path: pathlib.Path, replicas: int, **changes) -> None:
    """Back to step 5, in the middle of a report and with an evaluation to come, as a kill there would leave it."""
    train(path / "run", replicas, **changes)
    last = checkpoint.saved_steps(path / "run" / "checkpoints")[-1]
    expected = results(path / "run", last)
    events = sorted(test_history.events(path / "run"))
    forget_after(path / "run", 5)
    (path / "run" / "checkpoints" / ".incomplete_step_00000010").mkdir()
    train(path / "run", replicas, **changes)
    assert results(path / "run", last) == expected
    assert sorted(test_history.events(path / "run")) == events
    assert not list((path / "run" / "checkpoints").glob(".incomplete*"))
