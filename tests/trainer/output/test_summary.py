"""An experiment in a few lines: their words for every way of sharing, applying and computing steps."""

import dataclasses

import pytest

from tests import problems
from trainer.config import plan
from trainer.output import summary
from trainer.output.summary import ExperimentSummary, Group, MethodUse, OptimizerUse

LOSSES = ("a", "b", "c")


def _method(every: int | None = 1, **changes) -> MethodUse:
    config = problems.config(**changes)
    return MethodUse("cagrad", {"c": 0.4}, "a sum", "a Gramian", plan.of(config), every, config.micro_batches)


SUMMARY = ExperimentSummary(
    splits={"train": 1200, "validation": 30},
    feeds=("memory", "streaming", "memory"),
    inputs={"": (8, 8, 1)},
    targets={"a": (), "b": (3,)},
    model="mine:model",
    losses=LOSSES,
    groups=(Group(LOSSES, 4, 1500), Group(("a", "c"), 2, 70), Group(("b",), 1, 8)),
    unreached=Group((), 1, 5),
    frozen=0,
    untrained=6,
    method=_method(combine__name="cagrad"),
    optimizers=(
        OptimizerUse("shared", "Adam", "0.001", "", 6, 1570),
        OptimizerUse("a", "Adam", "0.001", "", 2, 1070),
        OptimizerUse("b", "SGD", "cosine_decay (decay_steps=9)", "momentum=0.9", 1, 8),
    ),
)


def test_lines():
    assert summary.lines(SUMMARY) == [
        "data:       1,200 train, 30 validation examples, in memory and streaming; inputs (8 x 8 x 1); "
        "targets a (scalar), b (3)",
        "model:      mine:model, 1,589 parameters",
        "parameters: shared 1,570, task-specific 8, reached by no loss 5, not trained 6",
        "reach:      1,500 shared by all; 70 shared by a, c; 8 only b",
        "method:     cagrad (c=0.4): a sum; looks at a Gramian",
        "steps:      a backward pass for every loss; applied jointly",
        "optimizers: Adam, learning rate 0.001: shared (6 variables, 1,570), a (2 variables, 1,070); "
        "SGD, learning rate cosine_decay (decay_steps=9), momentum=0.9: b (1 variable, 8); none: (1 variable, 5)",
    ]


def test_frozen_parameters_are_counted():
    frozen = dataclasses.replace(SUMMARY, frozen=3000)
    words = "shared 1,570, task-specific 8, reached by no loss 5, frozen 3,000, not trained 6"
    assert summary.lines(frozen)[1:3] == ["model:      mine:model, 4,589 parameters", f"parameters: {words}"]


def test_weights_of_classes_have_a_line():
    weights = {"a": ((1 / 3, 2.0),), "b": ((1.0, 2.5), (0.5, 6.0)), "c": (tuple(map(float, range(100))),)}
    *before, line = summary.lines(dataclasses.replace(SUMMARY, class_weights=weights))
    assert [each.split() for each in before] == [each.split() for each in summary.lines(SUMMARY)]
    assert line == "class weights: a 0.3333, 2; b 1, 2.5 | 0.5, 6; c 0, 1, 2, 3, 4, 5, and 94 more"


def test_many_losses_do_not_make_it_long():
    names = tuple(f"loss_{k}" for k in range(40))
    many = dataclasses.replace(
        SUMMARY,
        losses=names,
        targets=dict.fromkeys(names, ()),
        groups=(Group(names, 1, 9), *(Group((name,), 1, 2) for name in names)),
        optimizers=tuple(OptimizerUse(name, "Adam", "0.1", "", 1, 2) for name in names),
    )
    lines = summary.lines(many)
    assert len(lines) <= 8
    assert max(map(len, lines)) < 300
    assert lines[3].endswith("2 only loss_4; and 35 more")
    assert many.task_specific == 80
    assert lines[6].endswith("loss_5 (1 variable, 2), and 34 more (34 variables, 68); none: (1 variable, 5)")


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (_method(reduction="fused", every=100), "one backward pass, of the losses' weighted sum; every 100 steps "),
        (
            _method(reduction="auto", every=None),
            "weighted sum; at every report a backward pass for every loss, to measure (chosen by reduction='auto': "
            "'weighted' looks at nothing but its own constants)",
        ),
        (
            _method(reduction="auto", combine__apply="per_loss"),
            "a backward pass for every loss (chosen by reduction='auto': 'weighted' applied per loss needs",
        ),
        (
            _method(combine__name="pcgrad", combine__update_every=7, every=7),
            "every 7 steps a backward pass for every loss, to find coefficients; in between one backward pass, ",
        ),
        (_method(combine__name="modo"), "; the gradients that the method sees are those over each half of the batch"),
        (_method(combine__name="famo"), "; the losses of the same batch once more after the update"),
        (_method(batch_size=12, micro_batches=3), "a backward pass for every loss; batches in 3 parts"),
    ],
)
def test_steps(method, steps):
    assert steps in summary.steps(method)


def test_how_it_is_applied():
    independent = dataclasses.replace(SUMMARY, method=_method(combine__name="independent"))
    assert summary.lines(independent)[5].endswith("; applied per loss")
    assert any(sentence.startswith("Applied per loss: each loss's own") for sentence in summary.at_length(independent))
    assert any(sentence.startswith("Applied jointly: the shared opti") for sentence in summary.at_length(SUMMARY))
