"""Layers, parameters and reach against Keras' own counts and against what is known of small models by hand."""

import keras
import pytest

from tests import problems
from tests.trainer.describe import models
from trainer.cost import counting
from trainer.describe import layer_shapes, layers, model_tables
from trainer.describe.layers import Part
from trainer.gradients.reach import Reach
from trainer.output import summary as summary_lib
from trainer.run import experiment, overview
from trainer.run.experiment import Experiment

LABEL, NUMBER, VECTOR, VECTOR_L1 = range(4)  # the losses
ALL = (LABEL, NUMBER, VECTOR, VECTOR_L1)
BATCH = 11


def _built(**changes) -> Experiment:
    return experiment.build(problems.config(**changes), problems.strategy(1))


def _own(name: str, **changes) -> Experiment:
    own = {"name": f"tests.trainer.describe.models:{name}", "trunk": [], "heads": None}
    return _built(model=own, **changes)


def _tree(built: Experiment) -> Part:
    with layer_shapes.recorded() as shapes:
        counting.of_experiment(built, BATCH)
    return layers.tree(built.model, built.reach, shapes)


def _by_path(part: Part, path: str = "") -> dict[str, Part]:
    found = {path: part}
    for each in part.parts:
        found |= _by_path(each, f"{path}/{each.name}".strip("/"))
    return found


def _shapes(parts: dict[str, Part]) -> dict[str, tuple]:
    return {path: part.shapes[0][1:] for path, part in parts.items() if path and part.kind}


def _reached(parts: dict[str, Part]) -> dict[str, tuple]:
    return {path: tuple(part.reached) for path, part in parts.items() if len(part.reached) == 1}


@pytest.mark.parametrize("recompute", [False, True])
def test_trunk_and_heads(recompute):
    """Also where the trunk is computed again in the backward pass, it is shown as the layers it consists of."""
    built = _built(model__recompute=recompute)
    parts = _by_path(_tree(built))
    assert list(parts) == [
        "",
        "trunk",
        "trunk/inputs",
        "trunk/trunk_0_dense",
        "head label",
        "head label/head_label_0_dense",
        "head number",
        "head number/head_number_0_dense",
        "head vector",
        "head vector/head_vector_0_dense",
        "head vector/head_vector_1_dense",
    ]
    by_name = {layer.name: layer for layer in built.model._flatten_layers()}
    for path, part in parts.items():
        if name := path.partition("/")[2]:
            assert part.parameters == by_name[name].count_params()
            assert part.kind == type(by_name[name]).__name__
    assert parts[""].parameters == built.model.count_params()
    assert parts["head vector"].parameters == 7 * 5 + 5 + 5 * 3 + 3
    assert [part.shapes[0][1:] for path, part in parts.items() if "/" in path] == [(6,), (7,), (4,), (1,), (5,), (3,)]
    assert _reached(parts) == {
        "trunk": (ALL,),
        "trunk/trunk_0_dense": (ALL,),
        "head label": ((LABEL,),),
        "head label/head_label_0_dense": ((LABEL,),),
        "head number": ((NUMBER,),),
        "head number/head_number_0_dense": ((NUMBER,),),
        "head vector": ((VECTOR, VECTOR_L1),),
        "head vector/head_vector_0_dense": ((VECTOR, VECTOR_L1),),
        "head vector/head_vector_1_dense": ((VECTOR, VECTOR_L1),),
    }
    assert parts[""].reached == {ALL: 49, (VECTOR, VECTOR_L1): 58, (LABEL,): 32, (NUMBER,): 8}


def test_a_model_that_is_code():
    """Layers by the paths of their variables; variables of a layer's own; what is not trained."""
    built = _own("code")
    parts = _by_path(_tree(built))
    assert _shapes(parts) == {
        "encoder": (5,),
        "encoder/block": (5,),
        "encoder/block/dense": (5,),
        "encoder/block/batch_normalization": (5,),
        "encoder/dropout": (5,),
        "encoder/input_layer": (6,),
        "outputs_by_head/label": (4,),
        "outputs_by_head/number": (1,),
        "blocks/block": (3,),
        "blocks/block/dense": (3,),
        "blocks/block/batch_normalization": (3,),
    }
    counts = {path: part.parameters for path, part in parts.items()}
    assert counts[""] == built.model.count_params()
    assert counts["encoder/block"] == built.model.encoder.layers[0].count_params() == 6 * 5 + 5 + 4 * 5 + 5
    assert counts["encoder/block/scale"] == 5
    assert counts["encoder/dropout"] == 0
    assert parts["blocks/block/batch_normalization"].untrained == 2 * 3
    reached = _reached(parts)
    assert {reached[path] for path in reached if path.startswith("encoder")} == {(ALL,)}
    assert {reached[path] for path in reached if path.startswith("blocks")} == {((VECTOR, VECTOR_L1),)}
    assert reached["outputs_by_head/number"] == ((NUMBER,),)
    # Every variable's name begins with the path of the layer that it is shown in.
    paths = {path for path, part in parts.items() if not part.parts}
    assert all(name in paths or name.rpartition("/")[0] in paths for name in built.reach.names)


def test_a_graph_with_layers_for_some_heads():
    built = _own("graph")
    parts = _by_path(_tree(built))
    assert list(parts[""].parts) == [parts[name] for name in ("trunk", "heads label, number")] + [
        parts[f"head {name}"] for name in ("label", "number", "vector")
    ]
    assert parts["trunk"].parameters == built.model.get_layer("encoder").count_params()
    assert {path for path in parts if path.startswith("trunk/encoder/")} == {
        f"trunk/encoder/{name}" for name in ("input_layer", "dense", "dense_1")
    }
    some = "heads label, number"
    assert parts[some].reached == {(LABEL, NUMBER): 3 * 2 + 2}
    assert parts[some].untrained == parts[f"{some}/frozen"].parameters == 5 * 3 + 3
    summary = overview.of(built)
    assert (summary.shared, summary.task_specific) == (53 + 8 + 18, 12 + 3)
    assert (summary.frozen, summary.untrained) == (18, 0)
    assert summary.parameters == built.model.count_params()


def test_a_layer_that_no_head_needs():
    tree = layers.tree(models.graph_with_a_spare_input(), Reach((), (), ()), {})
    assert [part.name for part in tree.parts] == ["trunk", "head label", "head number", "needed by no head"]
    assert [part.name for part in tree.parts[-1].parts] == ["spare"]


def test_variables_of_a_layer_that_different_losses_reach():
    """They are shown one by one; what no loss reaches is said so."""
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.5, "warmup_steps": "1 epoch"}
    built = _built(
        losses__label__variables=["*bias"],
        losses__number__variables=["head*"],
        losses__label__optimizer={"name": "adam", "learning_rate": rate, "beta_1": 0.8},
    )
    parts = _by_path(_tree(built))
    trunk = "trunk/trunk_0_dense"
    assert parts[f"{trunk}/kernel"].reached == {(VECTOR, VECTOR_L1): 42}
    assert parts[f"{trunk}/bias"].reached == {(LABEL, VECTOR, VECTOR_L1): 7}
    head = "head label/head_label_0_dense"
    assert parts[f"{head}/kernel"].reached == {(): 28}
    assert parts[f"{head}/kernel"].shapes == ((7, 4),)
    assert parts[f"{head}/bias"].reached == {(LABEL,): 4}
    assert not parts["head vector/head_vector_0_dense"].parts
    names = [loss.name for loss in built.losses]
    table = model_tables.layers(_tree(built), names, BATCH)
    drawn = (cell.rpartition("]")[2] for cell in table.columns[0].cells)
    said = dict(zip(drawn, table.columns[4].cells, strict=True))
    assert said["head_vector_0_dense"] == "shared by vector, vector_l1"
    assert said["head_label_0_dense"] == "only label 4; reached by no loss 28"
    assert said["trunk_and_heads"] == "shared 107; task-specific 12; reached by no loss 28"
    summary = overview.of(built)
    assert summary_lib.parameters(summary) == "shared 107, task-specific 12, reached by no loss 28"
    schedule = "cosine_decay (initial_learning_rate=0.5, warmup_steps=1 epoch)"
    assert summary_lib.optimizers(summary) == (
        "Adam, learning rate 0.01: shared (6 variables, 107); "
        f"Adam, learning rate {schedule}, beta_1=0.8: label (1 variable, 4); "
        "SGD, learning rate 0.02, momentum=0.9: number (2 variables, 8); none: (1 variable, 28)"
    )
    optimizers = model_tables.optimizers(summary)
    assert [list(column.cells)[1] for column in optimizers.columns] == [
        "label",
        "Adam",
        schedule,
        "beta_1=0.8",
        "1",
        "4",
    ]


def test_layers_are_called_as_before_afterwards():
    original = keras.layers.Layer.__call__
    with layer_shapes.recorded():
        assert keras.layers.Layer.__call__ is not original
    assert keras.layers.Layer.__call__ is original
