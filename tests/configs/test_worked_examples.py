"""Every configuration trains; those of the table of examples in configs/README.md show what they say."""

import ast
import functools
import io
import math
import pathlib
import re

import numpy as np
import pytest
from rich.console import Console

from configs import differential_equation
from tests import problems
from tests.benchmarks import worked_examples
from trainer.config import loading
from trainer.config import settings as settings_lib
from trainer.output import plots
from trainer.run import experiment, train
from trainer.run.experiment import Experiment

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
EXAMPLES = [name for names in worked_examples.EXAMPLES.values() for name in names]
# Their data do not come with the trainer; tests of their own train them.
PRESETS = ("celeb_a", "census_income", "dsprites", "fashion_mnist", "multi_mnist", "qm9", "shapes3d")
FINE_TUNING = ("fine_tuning", "fine_tuning_everything")  # from files that tests of their own make
# One of each kind; CI trains all of them, and other tests build or train most of the others.
BY_HAND = ("imbalanced_classes", "named_outputs", "output_shapes", "own_model")
LINEAR = ("linear_heads", "weighted_linear_heads", "validation_per_output")
SLICES = ("weighted_slices", "averaged_gradients", "normalized_gradients")


def _config(name: str, **overrides: str) -> settings_lib.Config:
    return loading.load(f"{ROOT}/configs/{name}.py", list(overrides.items()))


@functools.cache
def _build(name: str) -> Experiment:
    return experiment.build(_config(name), problems.strategy(1))


def _reach(built: Experiment) -> dict[str, tuple[str, ...]]:
    """Variable → the losses that reach it."""
    reach = built.step.reach
    pairs = zip(reach.variables, reach.losses, strict=True)
    return {variable.path: tuple(built.losses[k].name for k in by) for variable, by in pairs}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in BY_HAND else [pytest.mark.ci_only])
        for name in NAMES
        if name not in (*PRESETS, *FINE_TUNING)
    ],
)
def test_every_configuration_trains(name, tmp_path, caplog, monkeypatch):
    """Three steps and an evaluation: finite numbers for every loss and metric, and no warning."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)  # takes longer than the steps
    config = _config(name, steps="3", report_every="1", eval_every="3")
    with caplog.at_level("WARNING", logger="absl"):
        history = train.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=io.StringIO()))
    assert not [record.getMessage() for record in caplog.records if record.name == "absl"]
    further = ["test"] if name == "river_flow" else []
    assert [report.split for report in history] == ["train"] * 3 + ["validation", *further]
    for report in history:
        assert {f"loss/{loss}" for loss in config.losses} <= set(report.values)
    assert all(math.isfinite(history[0].values[f"loss/{loss}"]) for loss in config.losses)
    for name, settings in (config.losses | config.metrics).items():
        for metric in settings.metrics:
            reported = metric.get("as", metric["name"].rpartition(":")[2])
            assert math.isfinite(history[-1].values[f"{name}/{reported}"])


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_says_how_to_run_it_and_is_in_the_readmes(name):
    command = f"--config=configs/{name}.py"
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / f"{name}.py").read_text()))
    if name in EXAMPLES:
        assert f"bash launch/local.sh {command}" in doc
        for page in ("configs/README.md", "tests/benchmarks/README.md"):
            (row,) = [line for line in (ROOT / page).read_text().splitlines() if line.startswith(f"| `{name}` |")]
            assert worked_examples.summary(name) in row
    else:
        assert command in doc or name == "digits"  # the default needs no flag
        assert re.search(rf"^\|.*`{name}(\.py)?`", (ROOT / "configs" / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_heads_share_nothing(name):
    built = _build(name)
    assert not built.step.reach.shared
    assert _reach(built) == {
        f"head_{loss.name}_0_dense/{part}": (loss.name,) for loss in built.losses for part in ("kernel", "bias")
    }
    sizes = [built.model.output[loss.head].shape[1] for loss in built.losses]
    assert sizes == [5, 3, 2][: len(sizes)]


def test_weights_of_the_examples():
    weights = {name: [loss.weight for loss in _config(name).losses.values()] for name in EXAMPLES}
    assert weights["weighted_linear_heads"] == [1.0, 0.5, 0.2]
    assert weights["regression_and_classification"] == [0.5, 0.5]
    assert weights["weighted_separate_optimizers"] == [0.8, 0.2]
    assert sorted(weights["two_regressions"]) == [0.3, 0.7]
    assert weights["weighted_slices"] == [0.7, 0.3]


def test_partially_shared():
    reach = list(_reach(_build("partially_shared")).values())
    assert (reach.count(("pair", "odd")), reach.count(("pair",)), reach.count(("odd",))) == (2, 2, 4)


@pytest.mark.parametrize("name", SLICES)
def test_slices_of_one_vector_share_every_variable(name):
    built = _build(name)
    assert len(built.step.reach.shared) == len(built.model.trainable_variables) == 4
    assert [loss.slice for loss in built.losses] == [(0, 64), (64, 74)]


def test_each_slices_example_combines_in_its_own_way():
    combinations = [_build(name).config.combine for name in SLICES]
    assert [combine.name for combine in combinations] == ["weighted", "mean", "normalized"]
    assert combinations[2].normalized.per_variable


@pytest.mark.parametrize(
    ("name", "optimizers"),
    [
        ("separate_optimizers", [("Adam", 1e-3), ("SGD", 1e-2)]),
        ("scalar_and_vector", [("Adam", 1e-3), ("RMSprop", 5e-4)]),
        ("weighted_separate_optimizers", [("Adam", 1e-3), ("Adam", 1e-4)]),
    ],
)
def test_every_loss_has_an_optimizer_of_its_own_over_all_that_it_reaches(name, optimizers):
    built = _build(name)
    groups = built.optimizer_groups
    used = [(type(group.optimizer).__name__, float(group.optimizer.learning_rate.numpy())) for group in groups]
    assert used == [(kind, pytest.approx(rate)) for kind, rate in optimizers]
    for k, group in enumerate(groups):
        assert group.positions == built.step.reach.reached_by(k)
    assert built.step.reach.shared


def test_outputs_of_different_shapes():
    shapes = {head: tuple(output.shape) for head, output in _build("output_shapes").model.output.items()}
    assert shapes == {"pair": (None, 5), "moments": (None, 2, 2)}


@pytest.mark.ci_only
def test_the_largest_error_is_that_of_all_points():
    """Also on three replicas, two of which get no point of the last batch."""
    built = experiment.build(_config("differential_equation", batch_size="100"), problems.strategy(3))
    found = built.evaluator.build()()
    x = np.linspace(0, 1, 201)[:, np.newaxis]
    errors = np.abs(built.model({"x": x})["u"] - np.sin(differential_equation.K * x))
    assert found["solution/LargestError"] == pytest.approx(errors.max(), abs=1e-5)
    assert found["solution/mae"] == pytest.approx(errors.mean(), abs=1e-5)


def test_the_own_loss_is_the_registered_one():
    """One is a class of the trainer, the other a function in the configuration's file; the runs are the same."""
    runs = [
        problems.train(experiment.build(_config(name, precision="float64"), problems.strategy(1)), 5)
        for name in ("imbalanced_classes", "imbalanced_classes_own_loss")
    ]
    for path, values in runs[0].variables.items():
        assert values == pytest.approx(runs[1].variables[path], rel=1e-9, abs=1e-12)
