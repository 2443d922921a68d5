"""Examples are held out by share, group, time, strata or folds, and a run keeps which."""

import numpy as np
import pytest

from input_pipelines import configuration
from input_pipelines.configuration import SourceConfig
from input_pipelines.sources import parting
from input_pipelines.sources.source import Arrays
from tests.input_pipelines import reading
from trainer.common import schema
from trainer.common.errors import ConfigError

ROWS = 200
_RANDOM = np.random.RandomState(0)
_DAYS = np.array([f"2024-{1 + day // 28:02}-{1 + day % 28:02}" for day in _RANDOM.permutation(ROWS) // 2])
COLUMNS = {
    "row": np.arange(ROWS),
    "patient": _RANDOM.randint(0, 25, ROWS),
    "ward": np.array([b"a", b"b", b"c"], object)[_RANDOM.randint(0, 3, ROWS)],
    "date": np.array([day.encode() for day in _DAYS], object),
    "hour": np.array(
        [f"{day}T{hour:02}:00:00Z".encode() for hour, day in zip(np.arange(ROWS) % 24, _DAYS, strict=True)], object
    ),
    "ill": (np.arange(ROWS) % 10 == 0).astype(np.int64),
    "level": np.where(np.arange(ROWS) % 9, _RANDOM.normal(size=ROWS), np.nan),
    "pixels": np.zeros((ROWS, 2)),
    "gaps": np.where(np.arange(ROWS) == 7, np.nan, 1.0),
    "words": np.array([b"now"] * ROWS, object),
}


def _parts(**changes) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train and to validate on."""
    splits = _splits(**changes)
    return splits["train"], splits["validation"]


def _splits(**changes) -> dict[str, np.ndarray]:
    """Split → its rows."""
    targets = {name: {} for name in ("ill", "level", "pixels")}
    tree = {"name": "npz", "path": "p", "inputs": {"row": {}}, "targets": targets, **changes}
    config = schema.record(SourceConfig)(tree, "dataset")
    configuration.check(schema.record(configuration.DatasetConfig)(tree, "dataset"))
    split = parting.part(config, Arrays(COLUMNS, lambda row: f"row {row}"), "dataset")
    rows = {name: source.arrays["row"] for name, source in split.items()}
    assert sorted(np.concatenate([*rows.values()])) == list(range(ROWS))
    assert all((np.diff(own) > 0).all() for own in rows.values())
    return rows


def test_a_share_is_the_same_alone_and_in_a_dictionary():
    rows = np.random.RandomState(0).permutation(ROWS)
    for held_out in (0.3, {"share": 0.3}):
        np.testing.assert_array_equal(_parts(held_out=held_out)[1], np.sort(rows[140:]))


@pytest.mark.parametrize("column", ["patient", "ward"])
@pytest.mark.parametrize("chosen", [{"held_out": {"share": 0.2}}, {"fold": {"of": 3, "number": 2}}])
def test_a_group_stays_together(column, chosen):
    ((key, how),) = chosen.items()
    train, validation = _parts(**{key: {**how, "by": column}})
    values = COLUMNS[column]
    assert not set(values[train]) & set(values[validation])
    groups = np.unique(values, return_counts=True)[1]
    assert abs(len(validation) - how.get("share", 1 / 3) * ROWS) <= groups.max()


@pytest.mark.parametrize("column", ["date", "hour", "row"])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.99])
def test_the_last_by_time_are_held_out(column, share):
    train, validation = _parts(held_out={"share": share, "last_by": column})
    assert COLUMNS[column][train].max() < COLUMNS[column][validation].min()  # the same time is in one split alone
    assert abs(len(validation) - share * ROWS) <= 2


@pytest.mark.parametrize("target", ["ill", "level"])
def test_strata_are_in_every_part_in_their_shares(target):
    values = COLUMNS[target]
    kinds = np.searchsorted(np.nanquantile(values, np.arange(1, 10) / 10), values, side="right")
    kinds = np.where(np.isnan(values), 10, kinds if target == "level" else values)
    folds = [_parts(fold={"of": 4, "number": number, "stratify": target})[1] for number in (1, 2, 3, 4)]
    for share, rows in (
        (0.3, _parts(held_out={"share": 0.3, "stratify": target})[1]),
        *((0.25, fold) for fold in folds),
    ):
        assert len(rows) == share * ROWS
        for kind in np.unique(kinds):
            assert abs((kinds[rows] == kind).sum() - share * (kinds == kind).sum()) <= 2


@pytest.mark.parametrize("way", [{}, {"by": "patient"}, {"last_by": "date"}, {"stratify": "ill"}])
def test_shares_of_several_splits(way):
    """Together they are the rows that one share of their sum holds out; groups stay together, the last come last."""
    parts = _splits(held_out={"share": {"validation": 0.2, "test": 0.1}, **way})
    together = _splits(held_out={"share": 0.2 + 0.1, **way})
    assert sorted([*parts["validation"], *parts["test"]]) == [*together["validation"]]
    np.testing.assert_array_equal(parts["test"], _splits(held_out={"share": 0.1, **way})["validation"])
    if "by" in way:
        patients = [set(COLUMNS["patient"][rows]) for rows in parts.values()]
        assert sum(map(len, patients)) == len(set.union(*patients))
    if "last_by" in way:
        assert COLUMNS["date"][parts["validation"]].max() < COLUMNS["date"][parts["test"]].min()
    if "by" not in way:
        assert [len(parts[split]) for split in ("validation", "test")] == pytest.approx([0.2 * ROWS, 0.1 * ROWS], abs=2)


@pytest.mark.parametrize("way", [{}, {"by": "patient"}, {"stratify": "ill"}])
def test_every_example_is_in_one_fold(way):
    folds = [_parts(fold={"of": 5, "number": number, **way})[1] for number in range(1, 6)]
    assert sorted(np.concatenate(folds)) == list(range(ROWS))
    assert way or {len(fold) for fold in folds} == {ROWS // 5}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"held_out": "a fifth"}, "held_out", "a number of at least 0 and below 1, or a dictionary with 'share'"),
        ({"held_out": {"by": "patient"}}, "held_out.share", "must be given"),
        ({"held_out": {"share": 0.2, "by": "patient", "last_by": "row"}}, "held_out.last_by", "beside 'by'"),
        ({"held_out": {"share": 0.2, "by": "patent"}}, "held_out.by", "did you mean 'patient'"),
        ({"held_out": {"share": 0.2, "by": "pixels"}}, "held_out.by", "a single value for each example"),
        ({"held_out": {"share": 0.2, "by": "gaps"}}, "held_out.by", "no value in row 7"),
        ({"held_out": {"share": 0.2, "by": "words"}}, "held_out", "no example to the validation split"),
        (
            {"held_out": {"share": 0.2, "last_by": "ward"}},
            "held_out.last_by",
            "in row 0; it must hold numbers, or dates",
        ),
        ({"held_out": {"share": 0.2, "stratify": "ile"}}, "held_out.stratify", "unknown target; did you mean 'ill'"),
        ({"held_out": {"share": 0.2, "stratify": "pixels"}}, "held_out.stratify", "a single value for each example"),
        ({"held_out": {"share": 0.001}}, "held_out", "no example to the validation split"),
        ({"held_out": {"share": {"train": 0.2}}}, "held_out.share.train", "is what the others leave"),
        ({"held_out": {"share": {"validation": 0.5, "test": 0.5}}}, "held_out.share", "no example to the train split"),
        ({"held_out": {"share": {"test": 0.2}}, "splits": {"test": "t"}}, "held_out", "without a test split"),
        ({"splits": {"test": "t"}}, "splits", "needs a 'train' split"),
        ({"fold": {"of": 5, "number": 6}}, "fold.number", "at most"),
        ({"fold": {"of": 1, "number": 1}}, "fold.of", "at least 2"),
        ({"fold": {"of": 5, "number": 1}, "held_out": 0.2}, "fold", "beside dataset.held_out"),
        ({"fold": {"of": 5, "number": 1}, "splits": {"validation": "v"}}, "fold", "without a validation split"),
        ({"fold": {"of": 26, "number": 1, "by": "patient"}}, "fold.of", "more than 'patient' has different values, 25"),
        (
            {"fold": {"of": 5, "number": 1}, "name": "wine", "inputs": None, "targets": None, "path": None},
            "fold",
            "is for",
        ),
    ],
)
def test_what_cannot_be_parted_so_is_named(changes, field, words):
    with pytest.raises(ConfigError, match=words) as found:
        _parts(**changes)
    assert found.value.field == f"dataset.{field}"


def test_the_rows_of_a_run_are_in_its_fingerprints(tmp_path):
    rows = "".join(f"{row},{row % 7},{row % 3}\n" for row in range(40))
    (tmp_path / "t.csv").write_text("x,patient,y\n" + rows)
    tree = {"name": "csv", "path": str(tmp_path / "t.csv"), "targets": {"y": {}}, "may_overlap": False}
    ways = [{"held_out": 0.2}, {"held_out": {"share": 0.2, "by": "patient"}}]
    ways += [{"fold": {"of": 3, "number": number}} for number in (1, 2, 3)]
    found = [reading.build({**tree, **way}) for way in ways]
    saved = [one.saved.fingerprints["dataset"] for one in found]
    assert len({*(each["train"] for each in saved)}) == len({*(each["validation"] for each in saved)}) == len(ways)
    assert reading.build({**tree, **ways[1]}).saved == found[1].saved
    assert found[0].names.columns["inputs"] == ("x", "patient")
    assert "patient" not in str(found[1].names.columns)  # no input unless named
    assert any("'patient' says which examples are held out" in note for note in found[1].notes)
