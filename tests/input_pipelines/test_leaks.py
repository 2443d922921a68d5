"""Nothing leaks: what is read twice is refused, and inputs that tell what they should not are named."""

import gzip
import re
import shutil

import numpy as np
import pytest

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from tests.input_pipelines import reading
from trainer.common import schema
from trainer.common.errors import ConfigError

_HEADER = "x,y\n"


def _files(folder) -> dict:
    """Two tables, and the first again: as a copy, by a link, compressed, as backups, in other words."""
    folder.mkdir(exist_ok=True)
    rows = [f"{row},{row % 3}" for row in range(30)]
    (folder / "a.csv").write_text(_HEADER + "\n".join(rows) + "\n")
    (folder / "b.csv").write_text(_HEADER + "\n".join(reversed(rows)) + "\n")
    (folder / "in_other_words.csv").write_text(_HEADER + "\n".join(f"{row} " for row in rows) + "\n")
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))
    for copy in ("copy.csv", "a.csv.bak", "a.csv~"):
        shutil.copy(folder / "a.csv", folder / copy)
    (folder / "a.csv.old").write_text(_HEADER + "1,2\n")
    (folder / "link.csv").symlink_to(folder / "a.csv")
    return {"name": "csv", "path": str(folder), "targets": {"y": {}}, "may_overlap": False}


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        (["b.csv", "a.csv"], "a.csv", "is the same file as .*a.csv of the train split"),
        (["b.csv", "a.csv"], "link.csv", "is the same file as"),
        (["b.csv", "a.csv"], "copy.csv", "holds the same as"),
        (["b.csv", "a.csv"], "a.csv.gz", "compressed or as a backup, as .*a.csv of the train split"),
        (["a.csv", "b.csv"], ["b.csv", "a.csv"], "is the same file as"),
        (["a.csv", "a.csv.gz"], "b.csv", "compressed or as a backup, as .*a.csv;"),
        (["a.csv*"], "b.csv", r"splits\.train="),
        (["a.csv", "a.csv.old"], "b.csv", "compressed or as a backup"),
        ("a.csv", "b.csv", None),
        ("a.csv~", "b.csv", None),
    ],
)
def test_what_would_be_read_twice_is_refused(tmp_path, train, validation, words):
    tree = {**_files(tmp_path), "splits": {"train": train, "validation": validation}}
    assert len(reading.build(tree, may_overlap=True).splits["train"]) >= 30
    if words is None:
        reading.build(tree)
        return
    with pytest.raises(ConfigError, match=words) as found:
        reading.build(tree)
    assert "dataset.may_overlap" in str(found.value)


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"validation": "in_other_words.csv", "test": ["b.csv", "a.csv"]}, "a.csv of the train split"),
        ({"validation": ["b.csv", "in_other_words.csv"], "test": "b.csv"}, "b.csv of the validation split"),
        ({"validation": "b.csv", "test": "copy.csv"}, None),
    ],
)
def test_every_pair_of_splits_is_looked_at(tmp_path, splits, words):
    tree = {**_files(tmp_path), "splits": {"train": "a.csv", **splits}}
    if words is None:
        (note,) = (note for note in reading.build(tree).notes if "may_overlap" in note)
        assert "the examples of test are those to train on" in note
        return
    with pytest.raises(ConfigError, match=words):
        reading.build(tree)


def test_a_test_split_is_not_what_rows_are_held_out_of(tmp_path):
    tree = {**_files(tmp_path), "splits": {"train": "a.csv", "test": "a.csv"}, "held_out": 0.2}
    with pytest.raises(ConfigError, match="is the same file as"):
        reading.build(tree)
    found = reading.build({**tree, "splits": {"train": "a.csv", "test": "b.csv"}})
    assert list(found.splits) == list(found.saved.fingerprints["dataset"]) == ["train", "validation", "test"]


def test_one_source_trains_on_what_another_validates_on(tmp_path):
    tree = {**_files(tmp_path), "splits": {"train": "a.csv", "validation": "b.csv"}}
    swapped = {**tree, "splits": {"train": "b.csv", "validation": "a.csv"}}
    with pytest.raises(ConfigError, match=r"sources\.one.*of the training split of dataset\.sources\.two"):
        data.build(schema.record(DatasetConfig)({"sources": {"one": tree, "two": swapped}}, "dataset"))


def both() -> dict[str, Examples]:
    """The same examples in both splits."""
    return {split: Examples(np.arange(8.0), {"y": np.arange(8.0) % 3}) for split in ("train", "validation")}


@pytest.mark.parametrize(
    "splits",
    [None, ("a.csv", "a.csv"), ("a.csv", "copy.csv"), ("a.csv", "a.csv.gz"), ("a.csv", "in_other_words.csv")],
    ids=["a function", "one file", "a copy", "compressed", "in other words"],
)
def test_splits_that_are_the_same_as_a_whole_are_said(tmp_path, splits):
    tree = {"name": "tests.input_pipelines.test_leaks:both", "may_overlap": False}
    if splits is not None:
        tree = {**_files(tmp_path), "splits": dict(zip(("train", "validation"), splits, strict=True))}
    told = "the examples to validate on are those to train on"
    assert told in " ".join(reading.build(tree).notes)
    assert told not in " ".join(reading.build(tree, may_overlap=True).notes)


ROWS = 60


def _notes(tmp_path, header: str, columns: list, **changes) -> str:
    table = "\n".join(",".join(map(str, row)) for row in zip(*columns, strict=True))
    (tmp_path / "t.csv").write_text(f"{header}\n{table}\n")
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "held_out": 0.25, "may_overlap": False}
    return "\n".join(reading.build({**tree, **changes}).notes)


def _drawn(values: str | None = None, seed: int = 0) -> list:
    random = np.random.RandomState(seed)
    return list(random.choice(list(values), ROWS)) if values else [round(each, 4) for each in random.normal(9, 1, ROWS)]


_CLASSES, _NUMBERS = _drawn("pqr"), _drawn()
_COPY = {"p": "1", "q": "2", "r": "3"}


@pytest.mark.parametrize(
    ("target", "prepare", "column", "said"),
    [
        (_NUMBERS, [], _NUMBERS, r"'x' \(\|r\| 1.00000\)"),
        (_NUMBERS, [], [32 - 1.8 * each for each in _NUMBERS], r"'x' \(\|r\| 1.00000\)"),
        ([each if row % 7 else "" for row, each in enumerate(_NUMBERS)], ["standardise"], _NUMBERS, r"'x' \(\|r\|"),
        (_NUMBERS, [], [round(10**each) for each in _NUMBERS], r"'x' \(\|r\| of the ranks 1.00000\)"),
        (_NUMBERS, [{"name": "threshold", "above": 9}], [2 * each for each in _NUMBERS], r"'x' \(\|r\| 1.00000\)"),
        (_NUMBERS, [{"name": "threshold", "above": 9}], [int(each > 9) for each in _NUMBERS], r"'x' \(one value of"),
        (_CLASSES, ["classes"], [_COPY[each] for each in _CLASSES], r"'x' \(one value of the target for each"),
        (_CLASSES, ["classes"], [f"{each}{row % 2}" for row, each in enumerate(_CLASSES)], r"'x' \(one value of"),
        (_NUMBERS, [], [each + noise for each, noise in zip(_NUMBERS, _drawn(seed=1), strict=True)], None),
        (_CLASSES, ["classes"], _drawn("pqr", 1), None),
        (_CLASSES, ["classes"], range(ROWS), None),  # values of its own predict everything, and nothing
        ([0] * (ROWS - 1) + [1], [], [0] * (ROWS - 1) + [1], None),  # one in sixty may be chance
    ],
)
def test_an_input_that_alone_predicts_a_target_is_said(tmp_path, target, prepare, column, said):
    notes = _notes(tmp_path, "x,z,y", [column, _drawn(seed=2), target], targets={"y": {"prepare": prepare}})
    if said is None:
        assert "predicts" not in notes
    else:
        assert re.search(rf"dataset\.targets\.y: on the first 45 examples .*{said}", notes), notes


def test_inputs_that_targets_and_weights_are_made_of_are_said(tmp_path):
    columns = [_drawn(seed=seed) for seed in (1, 2, 3)]
    named = {"x": {"feature": ["x", "y", "w"]}}
    columns[2] = [abs(each) for each in columns[2]]
    target = {"y": {"weight": "w"}}
    notes = _notes(tmp_path, "x,y,w", columns, targets=target, inputs=named)
    assert "target 'y' is made of 'y', which is an input, too" in notes
    assert "the weight of target 'y' is made of 'w'" in notes
    assert _notes(tmp_path, "x,y,w", columns, targets=target) == ""


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_a_column_without_a_name_is_no_input_unless_named(tmp_path, name):
    columns = [range(ROWS), _drawn(), _drawn("pq")]
    header, target = f"{name},x,y", {"y": {"prepare": "classes"}}
    assert f"{name!r} has no name of its own" in _notes(tmp_path, header, columns, targets=target)
    assert _notes(tmp_path, header, columns, targets=target, inputs={"x": {"feature": "*"}}) == ""
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "held_out": 0.25, "targets": target}
    assert reading.build(tree).names.columns["inputs"] == ("x",)
    if name:
        assert reading.build({**tree, "inputs": {"x": {"feature": ["x", name]}}}).names.columns["inputs"] == ("x", name)


@pytest.mark.parametrize(("texts", "said"), [([f"no {row}" for row in range(ROWS)], True), (_drawn("abcd"), False)])
def test_text_with_a_value_of_its_own_in_every_row_is_said(tmp_path, texts, said):
    notes = _notes(tmp_path, "x,z,y", [texts, _drawn(), _drawn("pq", 3)], targets={"y": {"prepare": "classes"}})
    assert ("dataset.inputs.categories: 'x' has 45 different texts in the first 45 examples" in notes) == said
