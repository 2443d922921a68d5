"""The cells of a comparison and their configurations."""

import pathlib

import pytest

from tests import problems
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.compare import grid
from trainer.compare.plan_file import Cell
from trainer.config import loading


def _names(tree, methods, *vary, single_tasks=False):
    variations = [grid.variation(each) for each in vary]
    return [cell.name for cell in grid.cells(loading.resolve(tree), methods, variations, single_tasks=single_tasks)]


def test_every_method_with_every_combination_of_what_varies():
    found = _names(problems.tree(), ["sum", "pcgrad"], "config.batch_size=4,8", "model.embedding_units=2,3")
    settings = [f"batch_size={size} model.embedding_units={units}" for size in (4, 8) for units in (2, 3)]
    assert found == [f"{method} {each}" for method in ("sum", "pcgrad") for each in settings]


def test_options_of_a_method_vary_for_that_one_alone():
    assert _names(problems.tree(), ["sum", "cagrad"], "combine.cagrad.c=0.2,0.4") == [
        "sum",
        "cagrad c=0.2",
        "cagrad c=0.4",
    ]


def test_each_loss_alone_varies_with_what_is_not_of_another_loss():
    found = _names(problems.tree(), ["sum"], "losses.label.every=1,2", "combine.smoothing=0.0", single_tasks=True)
    assert found[2:] == [
        "single_task=label losses.label.every=1",
        "single_task=label losses.label.every=2",
        *(f"single_task={loss}" for loss in problems.LOSSES if loss != "label"),
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("config.steps=10,20", [10, 20]),
        ("optimizer.name=adam,sgd", ["adam", "sgd"]),
        ("model.trunk=[{'layer': 'Dense', 'units': 2}],[]", [[{"layer": "Dense", "units": 2}], []]),
        ("dataset.name='a,b',c", ["a,b", "c"]),
        ("clip_norm=none,1.5", [None, 1.5]),
        ("dataset.path=a=b", ["a=b"]),
    ],
)
def test_values_on_a_command_line(text, values):
    assert grid.variation(text).values == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("config.steps", "must be config.<key>=<value>"),
        ("config.=3", "must be config.<key>=<value>"),
        ("seed=1,2", "is for --seeds"),
        ("config.combine.name=sum", "is for --combine"),
        ("steps=10,10", "the same value twice"),
    ],
)
def test_what_cannot_vary(text, words):
    with pytest.raises(ConfigError, match=words):
        grid.variation(text)


def test_a_method_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="--combine='pcgard'.*did you mean 'pcgrad'"):
        grid.methods(["sum", "pcgard"])


def test_the_configuration_of_a_cell_is_what_the_command_gives():
    tree = problems.tree(combine__name="weighted", steps=30)
    found = grid.configuration(tree, Cell("independent", {"losses.label.weight": 3.0}))
    expected = problems.tree(combine__name="independent", steps=30, losses__label__weight=3.0)
    assert schema.as_dict(found) == schema.as_dict(loading.resolve(expected))
    assert tree == problems.tree(combine__name="weighted", steps=30)


def test_a_method_that_needs_a_pass_for_each_loss_gets_them():
    tree = problems.tree(reduction="fused", probe_every=5)
    assert grid.configuration(tree, Cell("sum")).reduction == "fused"
    assert grid.configuration(tree, Cell("mgda")).reduction == "per_loss"


def _prepared(tree, methods, *vary):
    variations = [grid.variation(each) for each in vary]
    return grid.prepare(tree, grid.cells(loading.resolve(tree), methods, variations, single_tasks=False))


def test_a_cell_that_cannot_run_says_why_and_the_others_stay():
    first, second = _prepared(problems.tree(micro_batches=11), ["sum", "famo"])
    assert (first.failure, first.config.combine.name) == ("", "sum")
    assert second.config is None
    assert second.failure.startswith("micro_batches=11: must be 1")


@pytest.mark.parametrize(
    ("methods", "vary", "field"),
    [
        (["famo"], [], "micro_batches"),  # none of them can run
        (["sum"], ["modle.name=a"], "modle"),
        (["sum"], ["batch_size=11,-1"], "batch_size"),
        (["sum", "cagrad"], ["combine.cagrad.d=1"], "combine.cagrad.d"),
    ],
)
def test_what_no_cell_can_use_is_refused(methods, vary, field):
    with pytest.raises(ConfigError) as caught:
        _prepared(problems.tree(micro_batches=11), methods, *vary)
    assert caught.value.field == field


def test_folders_hold_nothing_that_a_path_must_not():
    cells = [Cell("mine:balance"), Cell("sum", {"model.trunk": [{"layer": "Dense"}], "dataset.path": "../a*b?"})]
    for cell in cells:
        assert pathlib.PurePath(cell.folder).name == cell.folder
        assert not set("*?[]: '\"") & set(cell.folder)
        assert not cell.folder.startswith(".")
