"""Reported cosines: means over the steps since the last report that have them."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties import interrupted
from trainer.run import experiment
from trainer.step import carried

PAIRS = [(j, k) for k in range(len(problems.LOSSES)) for j in range(k)]
pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.parametrize(
    ("changes", "steps"),  # those of six that have cosines
    [
        ({"combine__name": "pcgrad", "dataset__options": {"missing": True}}, range(6)),
        ({"combine__name": "sum", "reduction": "per_loss"}, [5]),
        ({"reduction": "fused", "probe_every": 2}, [1, 3, 5]),
        pytest.param({"combine__name": "mgda", "reduction": "features"}, range(6), marks=pytest.mark.ci_only),
        pytest.param({"combine__name": "modo"}, range(6), marks=pytest.mark.ci_only),
        pytest.param({"combine__name": "mgda", "combine__update_every": 4}, [0, 4], marks=pytest.mark.ci_only),
        pytest.param({"combine__name": "moco"}, [5], marks=pytest.mark.ci_only),  # looks at averages of gradients
    ],
)
def test_mean_over_the_steps_that_have_them(changes, steps):
    built = [experiment.build(problems.config(**problems.SIMPLE, **changes), problems.strategy(1)) for _ in range(2)]
    together, single = (_cosines(each, calls) for each, calls in zip(built, (1, 6), strict=True))
    taken = single[list(steps)]
    for j, k in PAIRS:
        known = [step[j, k] for step in taken if step[j, j] and step[k, k]]
        assert known  # of two losses without a step in common there is nothing to compare
        name = "cosine/" + "/".join(problems.LOSSES[i] for i in (j, k))
        assert together[name] == pytest.approx(np.mean(known), rel=0, abs=1e-12)


@pytest.mark.ci_only
@pytest.mark.parametrize("replicas", [2, 3])
def test_the_same_on_any_number_of_replicas(replicas):
    changes = {"combine__name": "pcgrad", "dataset__options": {"missing": True}, "batch_size": 12, **problems.SIMPLE}
    of_one, of_several = (
        _cosines(experiment.build(problems.config(**changes), problems.strategy(count)), 1) for count in (1, replicas)
    )
    names = [name for name in of_one if name.startswith("cosine/")]
    assert len(names) == len(PAIRS)
    assert [of_several[name] for name in names] == pytest.approx([of_one[name] for name in names], rel=0, abs=1e-9)


def _cosines(built: experiment.Experiment, calls: int) -> np.ndarray | dict[str, float | None]:
    """Takes six steps: in one call, what a report says of them; otherwise (6, K, K), what each measured."""
    loop, source, state = built.step.build(), built.source(0), built.step.initial_state()
    measured = []
    for first in range(0, 6, 6 // calls):
        numbers = (tf.constant(value, tf.int64) for value in (first, 6 // calls))
        state, totals = loop(source, *numbers, tf.constant(True), state, built.step.initial_totals())
        measured.append(totals.measured.cosines.numpy())
    return built.step.report(state, totals, 6) if calls == 1 else np.array(measured)


def test_a_checkpoint_of_an_earlier_version_resumes(tmp_path, monkeypatch):
    """It has no sums of cosines: the next report's mean is over the steps after it; all else is as it was."""
    changes = {"combine__name": "pcgrad", **problems.SIMPLE}
    with monkeypatch.context() as earlier:
        earlier.setattr(carried, "_OF_TOTALS", [name for name in carried._OF_TOTALS if name not in carried.COSINES])
        interrupted.train(tmp_path, **changes)
    expected = _reports(tmp_path)
    interrupted.forget_after(tmp_path, 5)
    interrupted.train(tmp_path, **changes)
    reports = _reports(tmp_path)
    found, before = (each.pop((8, "train")) for each in (reports, expected))
    assert reports == expected
    assert {name for name in found if found[name] != before[name]} == {
        name for name in found if name.startswith("cosine/")
    }


def _reports(path: pathlib.Path) -> dict[tuple[int, str], dict]:
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return {(line["step"], line["split"]): line for line in lines}
