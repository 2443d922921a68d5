"""One name has one meaning: of columns, of files, and of what is learned for an input or target of several sources."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig, SourceConfig
from input_pipelines.preparation import preparation
from input_pipelines.sources.source import Arrays
from tests.input_pipelines import reading
from trainer.common import patterns, schema
from trainer.common.errors import ConfigError

ROWS = 40


def _table(path, header: str) -> dict[str, np.ndarray]:
    """Writes a table whose columns differ; returns them by name."""
    names = header.split(",")
    columns = {name: 100.0 * number + np.arange(ROWS) for number, name in enumerate(names)}
    lines = [",".join(f"{columns[name][row]:g}" for name in names) for row in range(ROWS)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return columns


def _mixed(sources: dict) -> data.Data:
    """The data of several sources."""
    return data.build(schema.record(DatasetConfig)({"sources": sources}, "dataset"))


@pytest.mark.parametrize(
    ("inputs", "target", "taken"),
    [
        (["a", "b", "T [degC]"], "y[0]", ["a", "b", "T [degC]"]),
        (["a*"], "y0", ["a*"]),  # the column of this name, and not `a`
        (["?"], "y[0]", ["a", "b"]),
        (["y*", "a"], "y[0]", ["y0", "a"]),
        (["y0", "b"], "y*", ["y0", "b"]),  # by its name even a target is an input
    ],
)
def test_an_exact_name_is_that_column_and_patterns_take_no_target(tmp_path, inputs, target, taken):
    columns = _table(tmp_path / "t.csv", "a,T [degC],y0,y[0],b,a*")
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "held_out": 0.5}
    built = reading.build(
        {**tree, "inputs": {"x": {"feature": inputs}}, "targets": {"y": {"feature": target}, "z": {"feature": "y[0]"}}}
    )
    found = reading.in_order(built.splits["train"])
    rows = found["targets.z"].astype(int) - 300
    np.testing.assert_array_equal(
        found["inputs"].reshape(len(rows), -1), np.stack([columns[name][rows] for name in taken], 1)
    )
    of_target = [name for name in ("y0", "y[0]") if target in (name, "y*")]
    np.testing.assert_array_equal(
        found["targets.y"].reshape(len(rows), -1), np.stack([columns[name][rows] for name in of_target], 1)
    )


@pytest.mark.parametrize(
    ("inputs", "weight", "words"),
    [
        ("nothing_*", None, "unknown feature"),
        ("flow_i*", None, "matches flow_in_48h, what targets or weights are made of, .* and nothing else"),
        ("trust_*", "trust_1", "matches trust_1, what"),
    ],
)
def test_patterns_that_choose_nothing_are_named(tmp_path, inputs, weight, words):
    _table(tmp_path / "t.csv", "flow_now,flow_in_48h,trust_1")
    target = {"feature": "flow_in_48h"} | ({} if weight is None else {"weight": weight})
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "held_out": 0.5, "targets": {"y": target}}
    with pytest.raises(ConfigError, match=words) as caught:
        reading.build({**tree, "inputs": {"x": {"feature": inputs}}})
    assert caught.value.field == "dataset.inputs.x.feature"


def test_files_go_by_their_own_names(tmp_path):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    for number, name in enumerate(("t[1].csv", "t1.csv", "u?.csv")):
        (folder / name).write_text("x,y\n" + f"{number},{number}\n" * 3)
    tree = {"name": "csv", "path": str(folder), "inputs": {"x": {}}, "targets": {"y": {}}}
    for names, expected in ((["t[1].csv"], {0}), (["t[123].csv"], {1}), (["u?.csv"], {2}), (["t*"], {0, 1})):
        built = reading.build({**tree, "splits": {"train": names, "validation": "t1.csv"}})
        assert set(reading.in_order(built.splits["train"])["inputs"]) == expected


def test_patterns():
    names = ["a[0]", "a0", "ab"]
    assert patterns.matching(names, "a[0]") == ["a[0]"]
    assert patterns.matching(names, "a[0b]") == ["a0", "ab"]
    assert patterns.matching(names, "A*") == []
    assert [name for name in names if patterns.matching([name], patterns.escaped("a[0]"))] == ["a[0]"]


def test_what_is_learned_of_one_name_is_learned_from_all_sources(tmp_path):
    """As from one source with the rows of both; what one alone has, or prepares in another way, is its own."""
    random = np.random.RandomState(0)
    sources, rows = {}, {}
    for name, shares, kinds in (("a", [0.8, 0.2], ["cat", "dog", "cow"]), ("b", [0.2, 0.8], ["dog", "cow"])):
        colour, kind = random.choice(["red", "blue"], 60, p=shares), random.choice(kinds, 60)
        number = random.normal(len(kinds), 1, 60).round(3)
        rows[name] = [f"{c},{k},{n},{i}" for i, (c, k, n) in enumerate(zip(colour, kind, number, strict=True))]
        for split in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{split}.csv").write_text("\n".join(["colour,kind,number,row", *rows[name]]) + "\n")
        sources[name] = {
            "name": "csv",
            "path": str(tmp_path / name),
            "targets": {"kind": {"prepare": "classes"}},
        }
    (tmp_path / "one").mkdir()
    for split in ("train", "test"):
        text = "\n".join(["colour,kind,number,row", *rows["a"], *rows["b"]])
        (tmp_path / "one" / f"{split}.csv").write_text(text + "\n")
    inputs = {
        "colour": {"prepare": "categories"},
        "number": {"prepare": ["standardise", {"name": "bins", "count": 3}]},
    }
    one = reading.build({**sources["a"], "path": str(tmp_path / "one"), "inputs": inputs})
    both = _mixed({name: {**source, "inputs": inputs} for name, source in sources.items()})
    expected = {field.removeprefix("dataset"): learned for field, learned in one.saved.statistics["dataset"].items()}
    for name in sources:
        field = f"dataset.sources.{name}"
        found = {at.removeprefix(field): learned for at, learned in both.saved.statistics[field].items()}
        assert found[".inputs.number"][0]["mean"] == pytest.approx(expected[".inputs.number"][0]["mean"], abs=1e-12)
        assert {at: found[at] for at in (".inputs.colour", ".targets.kind")} == {
            at: expected[at] for at in (".inputs.colour", ".targets.kind")
        }
    apart = {name: {**source, "inputs": {"number": {"prepare": "standardise"}}} for name, source in sources.items()}
    apart["a"]["targets"] = {"own": {"feature": "number", "prepare": "standardise"}}
    apart["b"]["targets"] = {"kind": {"prepare": {"name": "classes", "names": ["dog", "cow"]}}}
    learned = _mixed(apart).saved.statistics
    assert learned["dataset.sources.b"]["dataset.sources.b.targets.kind"] == [{"names": ["dog", "cow"]}]
    own = learned["dataset.sources.a"]["dataset.sources.a.targets.own"][0]["mean"]
    assert own == pytest.approx(3, abs=0.5)
    assert own != learned["dataset.sources.a"]["dataset.sources.a.inputs.number"][0]["mean"]


def test_text_in_one_source_and_numbers_in_another_are_named(tmp_path):
    sources = {}
    for name, values in (("a", "1,2,3"), ("b", "x,y,z")):
        (tmp_path / f"{name}.csv").write_text(
            "\n".join(["code,y", *(f"{value},0" for value in values.split(","))]) + "\n"
        )
        splits = {"train": f"{name}.csv", "validation": f"{name}.csv"}
        inputs = {"code": {"prepare": "categories"}}
        sources[name] = {
            "name": "csv",
            "path": str(tmp_path),
            "splits": splits,
            "inputs": inputs,
            "targets": {"y": {}},
        }
    with pytest.raises(ConfigError, match=r"sources\.b\.inputs\.code\.feature='code': holds text, and .*sources\.a"):
        _mixed(sources)


_COLUMNS = {
    "truth": np.array([True, False, True]),
    "whole": np.array([1, 2, 3]),
    "real": np.array([1.0, 2.5, np.nan]),
    "text": np.array(["1", "True", "red"]),
}


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        *(("truth", [value], [1, 0, 1]) for value in (True, "true", "True", 1, 1.0, "1")),
        *(("truth", [value], [0, 1, 0]) for value in (False, "false", 0)),
        *(("whole", [value], [1, 0, 0]) for value in (1, 1.0, "1", "1.0")),
        *(("real", [value], [0, 1, np.nan]) for value in (2.5, "2.5")),
        ("real", [1, "2.5"], [1, 1, np.nan]),
        ("text", ["1"], [1, 0, 0]),
        ("text", [1, True], [1, 1, 0]),
    ],
)
def test_values_of_a_configuration_match_as_the_column_holds_them(column, values, found):
    made = _prepared(column, {"name": "equals", "values": values})
    np.testing.assert_array_equal(made, found)


@pytest.mark.parametrize(
    ("column", "names"), [("truth", [1, "False"]), ("whole", ["1.0", 2, 3.0]), ("text", [1, True, "red"])]
)
def test_names_of_classes_match_in_the_same_way(column, names):
    numbers = [0, 1, 0] if column == "truth" else [0, 1, 2]
    np.testing.assert_array_equal(_prepared(column, {"name": "classes", "names": names}), numbers)


@pytest.mark.parametrize(
    ("column", "operation", "words"),
    [
        ("text", {"name": "equals", "values": ["red", "blue"]}, "lacks 'blue'; it has '1', 'True', 'red'"),
        ("text", {"name": "equals", "values": ["true"]}, "lacks 'true'"),
        ("whole", {"name": "equals", "values": ["4"]}, "lacks '4'; it has 1, 2, 3"),
        ("whole", {"name": "equals", "values": ["red"]}, "'red' is no whole number"),
        ("whole", {"name": "equals", "values": [1.5]}, "1.5 is no whole number"),
        ("truth", {"name": "equals", "values": ["yes"]}, "'yes' is neither true nor false"),
        ("real", {"name": "equals", "values": [True]}, "True is no number"),
        ("whole", {"name": "groups", "of": [2, 0, 0, 1, 2, 3]}, "no class of group 2 is in the training split"),
    ],
)
def test_values_that_the_training_split_lacks_are_named(column, operation, words):
    with pytest.raises(ConfigError) as caught:
        _prepared(column, operation)
    assert caught.value.field == "dataset.inputs.x.prepare.0"
    assert words in str(caught.value)


def _prepared(column: str, operation: dict) -> np.ndarray:
    train = Arrays({"x": _COLUMNS[column], "y": np.zeros(3)}, str)
    tree = {"name": "npz", "path": "p", "inputs": {"x": {"prepare": [operation]}}, "targets": {"y": {}}}
    prepare = preparation.build({"dataset": (schema.record(SourceConfig)(tree, "dataset"), train)})["dataset"]
    return prepare({name: tf.constant(values) for name, values in train.arrays.items()})["inputs"].numpy()


@pytest.mark.parametrize(("missing", "said"), [("2", False), (7, True)])
def test_a_value_for_missing_labels_that_never_occurs_is_said(tmp_path, missing, said):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("x,y\n1,1\n2,2\n3,3\n")
    tree = {"name": "csv", "path": str(tmp_path), "inputs": {"x": {}}, "targets": {"y": {"missing": missing}}}
    built = reading.build(tree)
    assert [line for line in built.notes if "no label of the training split" in line] == (
        ["dataset.targets.y.missing=7: no label of the training split is that, nor absent"] if said else []
    )
