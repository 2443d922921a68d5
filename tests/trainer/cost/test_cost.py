"""`trainer.cost`: its predictions against the traced step, and its command line."""

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import tensorflow as tf

from input_pipelines.datasets import digits
from input_pipelines.examples import Examples
from tests import forked, problems
from tests.answers import NO_TENSORFLOW_SECONDS, assert_at_once
from tests.readmes import COMPARISON
from trainer.config import loading
from trainer.cost import counting, steps
from trainer.cost.steps import StepCost
from trainer.run import experiment
from trainer.run.experiment import Experiment

BATCH = 64
# Optimizers do none of the operations that are counted; these are traced in less time.
SGD = str({"name": "sgd", "learning_rate": 0.01})
PLAIN = {"shared_optimizer": SGD} | {f"losses.{loss}.optimizer": SGD for loss in ("digit", "redraw", "ink")}
WITHIN = 0.05
FUSED = {"reduction": "fused"}
LOG_LOSSES = {"combine.name": "pcgrad", "combine.log_losses": "True"}
DEEP_HEADS = {"model.trunk": "[{'layer': 'Flatten'}, {'layer': 'Dense', 'units': 100}]"} | {
    f"model.heads.{name}": str([{"layer": "Dense", "units": 500}] * 3 + own)
    for name, own in {
        "digit": [{"layer": "Dense", "units": 10}],
        "image": [{"layer": "Dense", "units": 64}, {"layer": "Reshape", "target_shape": (8, 8)}],
        "ink": [{"layer": "Dense", "units": 1}],
    }.items()
}
_NORMALISED = {"layer": "BatchNormalization", "synchronized": True}
SYNCHRONIZED = {
    "model.trunk": str([{"layer": "Flatten"}, _NORMALISED, {"layer": "Dense", "units": 300}, _NORMALISED]),
    "model.heads.digit": str([{"layer": "Dense", "units": 40}, _NORMALISED, {"layer": "Dense", "units": 10}]),
}
HALF_LABELLED = {"dataset.name": "tests.trainer.cost.test_cost:digits_half_labelled"}
COMPARED = {"losses.digit.over": "global_batch", "losses.redraw.over": "global_batch"}
SECOND_LOSS_ON_A_HEAD = {"losses.redraw_l1": "{'head': 'image', 'target': 'image', 'loss': 'mae'}"}
IGNORED_CLASS = {"losses.digit.loss.ignore_class": "-1", "losses.digit.normalizer": "examples"}


# Name → replicas and changes.
CASES = {
    "weighted": (1, {}),
    "gramian": (2, {"combine.name": "pcgrad"}),
    "per loss": (2, {"combine.name": "independent"}),
    "missing labels": (2, HALF_LABELLED | IGNORED_CLASS),
    "fused": (2, FUSED),
    "features": (2, {"combine.name": "pcgrad", "reduction": "features"}),
    "weights now and then": (2, {"combine.name": "pcgrad", "combine.update_every": "10"}),
    "micro-batches": (2, {"micro_batches": "2"}),
    "recompute": (1, {"model.recompute": "True"}),
    "fused, losses after the update": (2, FUSED | IGNORED_CLASS | {"combine.name": "famo"}),
    "two half batches": (2, {"combine.name": "modo"}),
    "moving averages": (2, {"combine.name": "moco"}),
    "synchronized statistics": (2, SYNCHRONIZED | {"combine.name": "pcgrad"}),
    "examples compared": (2, COMPARED | FUSED | {"combine.name": "famo"}),
}
# One for each way to compute a step and for what the others add to it; CI has the time for all of them.
BY_HAND = ("weighted", "gramian", "per loss", "features", "examples compared")
CASES |= {
    "per loss, full": (1, {"combine.name": "pcgrad", "combine.apply": "per_loss", "clip_norm": "1.0"}),
    "partly shared head": (2, SECOND_LOSS_ON_A_HEAD | {"combine.name": "pcgrad"}),
    "some variables": (1, {"losses.ink.variables": "['head_ink*']"}),
    "nothing shared": (2, {"model.trunk": "[{'layer': 'Flatten'}]"}),
    "float64": (2, {"precision": "float64"}),
    "fused, missing labels": (2, FUSED | HALF_LABELLED),
    "reduced in bfloat16": (2, {"reduce_dtype": "bfloat16"}),
    "fused, recompute": (1, FUSED | {"model.recompute": "True"}),
    "mixed precision": (2, {"precision": "mixed_bfloat16"}),
    "packs": (2, {"bytes_per_pack": "200000"}),
    "fused, from the losses": (2, FUSED | {"combine.name": "uncertainty"}),
    "element by element": (2, {"combine.name": "graddrop"}),
    "log losses, now and then": (2, LOG_LOSSES | {"combine.update_every": "10"}),
    "heads apart": (2, DEEP_HEADS | {"combine.name": "mgda", "combine.update_every": "10"}),
    "from the losses": (2, {"combine.name": "uncertainty"}),
    "from the losses, now and then": (2, {"combine.name": "uncertainty", "combine.update_every": "10"}),
    "losses after the update": (2, {"combine.name": "famo"}),
    "losses after the update, now and then": (2, {"combine.name": "famo", "combine.update_every": "10"}),
    "smoothed log losses": (2, LOG_LOSSES | {"combine.smoothing": "0.5"}),
    "features of log losses": (2, LOG_LOSSES | {"reduction": "features"}),
    "per variable": (2, {"combine.name": "normalized", "combine.normalized.per_variable": "True"}),
    "two half batches, now and then": (2, {"combine.name": "modo", "combine.update_every": "10"}),
    "two half batches, partly shared head": (2, SECOND_LOSS_ON_A_HEAD | {"combine.name": "sdmgrad"}),
    "two half batches in micro-batches": (2, {"combine.name": "modo", "micro_batches": "2"}),
    "two half batches, recompute": (2, {"combine.name": "modo", "model.recompute": "True"}),
    "two half batches in packs": (2, {"combine.name": "modo", "bytes_per_pack": "200000"}),
    "moving averages of log losses": (2, {"combine.name": "db_mtl"}),
    "moving averages, per loss": (2, {"combine.name": "moco", "combine.apply": "per_loss"}),
    "in order element by element": (2, {"combine.name": "trimmed_mean"}),
    "fused, synchronized statistics": (2, SYNCHRONIZED | {"combine.name": "famo"} | FUSED),
    "synchronized statistics of features": (2, SYNCHRONIZED | {"combine.name": "pcgrad", "reduction": "features"}),
    "synchronized statistics in micro-batches": (2, SYNCHRONIZED | {"micro_batches": "2"}),
}


@pytest.mark.parametrize(
    ("replicas", "overrides"),
    [
        pytest.param(*case, id=name, marks=[] if name in BY_HAND else [pytest.mark.ci_only])
        for name, case in CASES.items()
    ],
)
def test_prediction_is_what_the_traced_step_does(root, replicas, overrides):
    """Operations as the profiler counts them within 5 %; bytes and number of collectives exactly."""
    plain = PLAIN if overrides else {}
    changes = {"batch_size": str(BATCH), "reduction": "per_loss"} | plain | overrides
    config = loading.load(f"{root}/configs/digits.py", list(changes.items()))
    built = experiment.build(config, problems.strategy(replicas))
    kinds, graph = _predict(built, replicas), _traced(built)
    # What a step does only now and then stands in conditions: the branches that reduce most are those of a full step,
    # those that reduce least of a step between two of them, unless they do nothing.
    picks = (_least,) if overrides.get("reduction") == "fused" else (_most, _least)
    for (_, predicted), pick in zip(kinds, picks, strict=False):
        traced = _work(graph, pick)
        assert predicted.operations == pytest.approx(traced.operations / replicas, rel=WITHIN)
        if replicas > 1:
            assert predicted.reduced_on(replicas) == traced.reduced / replicas
            assert predicted.collectives == traced.collectives / replicas


def digits_half_labelled() -> dict[str, Examples]:
    """The digits, those with ink in one pixel labelled."""
    splits = digits.load()
    return {
        name: Examples(split.inputs, split.targets, {"digit": (split.inputs[:, 0, 3, 0] > 0).astype("float32")})
        for name, split in splits.items()
    }


def _predict(built: Experiment, replicas: int) -> tuple[tuple[float, StepCost], ...]:
    return steps.steps(*counting.of_experiment(built, BATCH // replicas))


class _Work(NamedTuple):
    """The work of a graph in one step, on all replicas: operations, bytes given to collectives, number of those."""

    operations: float
    reduced: int
    collectives: int


def _traced(built: Experiment) -> tf.Graph:
    """The loop of a run; of a fused one without its probes."""
    loop, iterator = dataclasses.replace(built.step, probes=None).build(), iter(built.batches(0))
    zero = tf.constant(0, tf.int64)
    carried = (built.step.initial_state(), built.step.initial_totals())
    return loop.get_concrete_function(iterator, zero, zero, tf.constant(True), *carried).graph


def _work(graph: tf.Graph, pick: Callable[[Iterable[_Work]], _Work]) -> _Work:
    """Sums the work of a graph: a loop's body counts once, a condition by the branch that `pick` chooses."""
    parts = []
    for op in _that_run(graph):
        collective = op.type == "CollectiveReduceV2"
        size = op.inputs[0].shape.num_elements() * op.inputs[0].dtype.size if collective else 0
        parts.append(_Work(counting.count(op), size, int(collective)))
        inner = [
            _work(_function(graph, attribute.func.name), pick)
            for attribute in op.node_def.attr.values()
            if attribute.func.name
        ]
        parts += [pick(inner)] if op.type in ("If", "StatelessIf") else inner
    return _Work(*map(sum, zip(*parts, strict=True)))


def _most(branches: Iterable[_Work]) -> _Work:
    return max(branches, key=lambda work: (work.reduced, work.operations))


def _least(branches: Iterable[_Work]) -> _Work:
    some = [work for work in branches if work.operations or work.collectives]
    return min(some, key=lambda work: (work.reduced, work.operations), default=_Work(0, 0, 0))


def _that_run(graph: tf.Graph) -> list[tf.Operation]:
    """The operations that a function's outputs and side effects need: gradients that nobody uses are pruned."""
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    found: dict[str, tf.Operation] = {}
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())


def _function(graph: tf.Graph, name: str) -> tf.Graph:
    while name not in graph._functions:
        graph = graph.outer_graph
    return graph._functions[name].graph


# ---------------------------------------------------------------------------------------------------------------------
# The command line.
# ---------------------------------------------------------------------------------------------------------------------


def _run(*arguments: str, root) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "trainer.cost", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replicas=0,8"], ["--replicas='0,8'", "whole numbers of at least 1"]),
        (["--replicas=eight"], ["--replicas='eight'"]),
        (["--replicas="], ["--replicas=''"]),
        (["--losses=3,-1"], ["--losses='3,-1'"]),
        (["--losses=4"], ["--losses=4", "at most 3"]),
        (["--batch_per_replica=0"], ["--batch_per_replica=0"]),
        (["--utilisation=40"], ["--utilisation=40.0", "at most 1"]),
        (["--link_gbytes=nan"], ["--link_gbytes=nan", "above 0"]),
        (["--latency_us=-1"], ["--latency_us=-1.0"]),
        (["--node_size=0"], ["--node_size=0"]),
        (["--replica=8"], ["--replica: is no flag; did you mean --replicas?"]),
        (["--combine=pcgrd"], ["--combine='pcgrd'", "did you mean 'pcgrad'"]),
        (["--config=nowhere.py"], ["--config='nowhere.py'", "existing Python file"]),
        (["--config.batch_sze=3"], ["batch_sze=3", "did you mean 'batch_size'"]),
        (["8,64"], ["arguments='8,64'"]),
    ],
)
def test_mistakes_give_one_line_at_once(root, arguments, words):
    assert_at_once("trainer.cost", *arguments, words=words, cwd=root, start=arguments == ["--losses=4"])


def test_help_is_quick_and_lists_the_flags(root):
    start = time.monotonic()
    result = _run("--help", root=root)
    assert time.monotonic() - start < NO_TENSORFLOW_SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--config", "--replicas", "--batch_per_replica", "--device_tflops", "--latency_us", "--compare"):
        assert flag in result.stdout


def test_comparison_in_markdown(root):
    """A row for each class and number of losses; the plain sum in milliseconds, more losses cost more passes."""
    command = COMPARISON.split()
    result = forked.run(*command[2:], "--losses=2,3", "--batch_per_replica=4096", cwd=root)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", result.stdout, re.M)
    ]
    columns = ["method", "K", "operations", "reduced, MB", "gradients, MB"]
    assert rows[0] == [*columns, *(f"{replicas} replicas" for replicas in (8, 64, 512))]
    assert [row[1] for row in rows[2:]] == ["2"] * 9 + ["3"] * 9
    operations = {(row[0], row[1]): float(row[2]) for row in rows[2:]}
    for k in (2, 3):
        assert operations["plain sum (`fused`)", str(k)] == 1
        passes = (1 + 2 * k) / 3  # about: the first layer takes no gradient of its input
        assert operations["Gramian (`per_loss`)", str(k)] == pytest.approx(passes, rel=0.05)
    assert all(cell.endswith(" ms") for row in rows[2:] if row[0].startswith("plain") for cell in row[5:])
    assert "Assumed: 4096 examples per replica; 312 TFLOP/s" in result.stdout
