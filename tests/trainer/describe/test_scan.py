"""`python -m trainer.describe --scan`: counts, everything that is wrong, equal examples, of every kind of source."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from input_pipelines import configuration
from input_pipelines.examples import Examples
from tests.input_pipelines import user_files
from tests.input_pipelines.user_files import COUNTS, KINDS
from tests.trainer.describe.broken_files import BROKEN, break_pictures, break_records, break_rows
from trainer.config import loading
from trainer.describe.scan import report, scanning
from trainer.describe.scan.duplicates import digests
from trainer.describe.scan.findings import Findings
from trainer.describe.scan.scanning import Scan


def _tree(dataset: Mapping[str, Any], classes: int = 3, **changes: Any) -> dict[str, Any]:
    """An experiment with a loss of classes, and one of numbers where the data have any."""
    tree = {
        "dataset": dict(dataset),
        "model": {
            "trunk": [{"layer": "Flatten"}],
            "heads": {"kind": [{"layer": "Dense", "units": classes, "activation": "softmax"}]},
        },
        "losses": {"kind": {"loss": "sparse_categorical_crossentropy"}},
        "batch_size": 4,
    }
    return {**tree, **changes}


def _scan(tree: Mapping[str, Any]) -> Scan:
    config = loading.resolve(tree)
    configuration.check(config.dataset)
    return scanning.scan(config, Console(file=io.StringIO()))


def _printed(scan: Scan) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    report.show(scan, console)
    return console.file.getvalue()


def _counts(scan: Scan, split: str) -> Any:
    return next(counts for part, counts in scan.counts if part.split == split)


def _assert_wrong(scan: Scan, expected: Sequence[str]) -> None:
    """Exactly these things are wrong, in any order; each is a pattern."""
    assert scan.wrong_count == len(expected), scan.wrong
    for pattern in expected:
        assert sum(bool(re.search(pattern, line)) for line in scan.wrong) == 1, (pattern, scan.wrong)


@pytest.mark.parametrize("kind", BROKEN)
def test_everything_that_is_wrong_is_named(tmp_path, kind):
    dataset = KINDS[kind][0](tmp_path)
    expected = BROKEN[kind](tmp_path)
    scan = _scan(_tree({**dataset, "window": 64}))
    _assert_wrong(scan, expected)
    for split in COUNTS:
        examples = next(len(part) for part, _ in scan.counts if part.split == split)
        there = sum(f"{split}{between}" in pattern for pattern in expected for between in ("-", ".", "/"))
        unread = 3 * (kind == "tfrecord" and split == "validation")
        assert _counts(scan, split).usable == examples - there - unread
    assert f"{len(expected)} things are wrong" in _printed(scan)


@pytest.mark.parametrize("kind", ["csv", "tfds directory", pytest.param("image_folder", marks=pytest.mark.ci_only)])
def test_counts_are_those_of_all_examples(tmp_path, kind):
    scan = _scan(_tree({**KINDS[kind][0](tmp_path), "feed": "streaming" if KINDS[kind][1] else "memory"}))
    assert (scan.wrong, scan.duplicates, scan.notes) == ([], [], [])
    for split, examples in COUNTS.items():
        kinds, found = user_files.examples(split)["kind"], _counts(scan, split)
        assert found.usable == found.targets["kind"].present == examples
        assert found.targets["kind"].classes() == {value: int(np.sum(kinds == value)) for value in range(3)}
    if kind != "image_folder":
        size = _counts(scan, "train").features["size" if kind == "csv" else "about/size"]
        sizes = user_files.examples("train")["size"]
        assert (size.present, size.missing, size.low, size.high) == pytest.approx((53, 0, sizes.min(), sizes.max()))
    printed = _printed(scan)
    for words in ("Nothing is wrong.", "Nothing was left out.", "kind: labels of each class"):
        assert words in printed


def test_missing_labels_text_and_equal_rows(tmp_path):
    rows = ["1,red,5,", "2,,6,1", "3,blue,7,0", "1,red,5,", "3,blue,7,1", "", "1,red,5,", "9,red,1,1"]
    for name, chosen in (("train", rows[:5]), ("validation", rows[6:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,colour,b,kind", *chosen]) + "\n")
    targets = {"kind": {}, "both": {"feature": ["b", "kind"]}}
    dataset = {
        "name": "csv",
        "path": str(tmp_path),
        "inputs": {"x": {"feature": "a"}, "colour": {"prepare": "categories"}},
    }
    tree = _tree(
        {**dataset, "targets": targets}, model={"name": "tests.trainer.describe.test_scan:two_inputs"}, batch_size=2
    )
    scan = _scan(tree)
    assert scan.wrong == []
    found = _counts(scan, "train")
    assert (found.features["colour"].present, found.features["colour"].missing, found.features["colour"].distinct) == (
        4,
        1,
        2,
    )
    assert (found.features["kind"].present, found.features["kind"].missing) == (3, 2)
    assert (found.targets["kind"].present, found.targets["kind"].missing) == (3, 2)
    assert found.targets["kind"].classes() == {0: 1, 1: 2}
    assert found.targets["both"].columns.tolist() == [5, 3]
    path = str(tmp_path / "train.csv")
    assert scan.duplicates == [
        f"train: 1 with the inputs and targets of an earlier example: {path}, row 5 and {path}, row 2",
        f"validation: 1 with the inputs and targets of an example of train: {tmp_path}/validation.csv, row 2 and "
        f"{path}, row 2",
        f"train: 1 with the inputs of an earlier example and other targets: {path}, row 6 and {path}, row 4",
    ]


def two_inputs() -> keras.Model:
    """A model of the user's own with a single head."""
    inputs = {"x": keras.Input((), name="x"), "colour": keras.Input((), dtype="int32", name="colour")}
    numbers = keras.ops.stack([inputs["x"], keras.ops.cast(inputs["colour"], "float32")], axis=1)
    return keras.Model(inputs, {"kind": keras.layers.Dense(2, activation="softmax", name="kind")(numbers)})


def arrays(wrong: bool = False) -> dict[str, Examples]:
    """Splits of a function of the user's own; two examples of training cannot be used where `wrong`."""
    inputs, kind = np.random.RandomState(0).normal(size=(30, 2)), np.arange(30) % 3
    if wrong:
        inputs[[4, 17], 1] = np.nan
        kind[9] = 3
    return {
        "train": Examples(inputs[:20], {"kind": kind[:20]}, {"kind": (np.arange(20) > 1).astype("float32")}),
        "validation": Examples(inputs[20:], {"kind": kind[20:]}),
    }


def test_several_sources_and_a_function(tmp_path):
    dataset = KINDS["csv"][0](tmp_path)
    dataset |= {"inputs": {"numbers": {"feature": ["first", "second"], "prepare": "standardise"}}, "quota": 3}
    expected = break_rows(tmp_path)
    own = {"name": "tests.trainer.describe.test_scan:arrays", "options": {"wrong": True}}
    scan = _scan(_tree({"sources": {"table": dataset, "own": own}}))
    _assert_wrong(
        scan,
        [
            *expected,
            *(f"sources.own.train.inputs='example {row}'.*nan there" for row in (4, 17)),
            "sources.own.train, example 9: target 'kind' holds 3",
        ],
    )
    assert "train of own" in _printed(scan)
    right = _scan(_tree({"name": own["name"]}))
    assert (right.wrong, _counts(right, "train").targets["kind"].missing) == ([], 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 100}, ["batch_size=100.*at most the size"]),  # of training alone
        ({"losses": {"kind": {"loss": "nothing"}}}, ["row 4: .*NaN", "row 6: .*inf", "losses.kind.loss='nothing'"]),
        ({"classes": 9}, ["row 4: .*NaN", "row 6: .*inf"]),
    ],
)
def test_mistakes_beside_those_of_the_data(tmp_path, changes, words):
    dataset = KINDS["csv"][0](tmp_path)
    if "batch_size" not in changes:
        break_rows(tmp_path)
    _assert_wrong(_scan(_tree(dataset, **changes)), words)


def test_what_cannot_be_opened_or_prepared_does_not_hide_the_rest(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (
        KINDS["tfrecord"][0](tmp_path / "one"),
        {**KINDS["csv"][0](tmp_path / "two"), "path": str(tmp_path / "no")},
    )
    expected = break_records(tmp_path / "one")
    without_classes = [pattern for pattern in expected if "target" not in pattern]
    _assert_wrong(
        _scan(_tree({"sources": {"one": one, "two": two}})), [*without_classes, "sources.two.path.*not exist"]
    )
    scan = _scan(_tree({**one, "inputs": {"pictures": {}}}))
    _assert_wrong(scan, [*without_classes, "inputs.pictures.feature.*unknown feature"])


def test_nothing_that_can_be_read(tmp_path):
    dataset = KINDS["tfrecord"][0](tmp_path, 1)
    record = user_files.as_records("train")[0] | {"picture": b"no picture"}
    user_files.write_records(tmp_path / "train-00000-of-00001.tfrecord", [record] * 3)
    wrong = [
        *(f"train-00000-of-00001.tfrecord, record {number}: " for number in range(3)),
        "no example that can be read",
    ]
    _assert_wrong(_scan(_tree(dataset)), wrong)


def test_pictures_that_are_left_out_are_no_mistakes(tmp_path):
    dataset = KINDS["image_folder"][0](tmp_path)
    break_pictures(tmp_path)
    scan = _scan(_tree({**dataset, "undecodable": "skip"}))
    assert scan.wrong == []
    assert [line.split(" and ")[0] for line in scan.notes] == [
        "dataset: 2 images of the train split do not decode",
        "dataset: 1 images of the validation split do not decode",
    ]


def test_of_very_many_mistakes_a_thousand_are_listed():
    findings = Findings()
    for number in range(1500):
        findings.add("dataset.inputs.x", f"row {number}")
    findings.add("dataset", "another")
    assert len(findings) == 1501
    assert findings.lines()[-2:] == ["dataset.inputs.x: 500 more like these", "another"]
    assert len(findings.lines()) == 1002


def test_digests_tell_apart_what_differs():
    features = {"a": np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.5]]), "t": np.array([b"x", b"x", b"x"], object)}
    features["wide"] = np.zeros((3, 2000), np.uint8)
    of_all = digests(features, list(features), 3)
    assert of_all[0] == of_all[1] != of_all[2]
    features["wide"][1, 1999] = 1
    assert len(set(digests(features, list(features), 3).tolist())) == 3
    assert len(set(digests(features, ["t"], 3).tolist())) == 1
