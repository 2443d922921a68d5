"""A SavedModel answers raw data, whichever kind of source they are of, as the run's own prediction of them does."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

import trainer
from tests.input_pipelines import user_files
from trainer.common.errors import ConfigError, RunError
from trainer.export import checking

_CLASSES = {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}}
_TRUNK = [{"layer": "Dense", "units": 6, "activation": "tanh"}]
_ABSENT = np.iinfo(np.int64).min
_CITIES = ["Bonn", "Oslo", "Rome"]


def _trained(dataset: dict[str, Any], heads: dict[str, int], losses: dict[str, Any], folder: pathlib.Path, **more: Any):
    tree = {
        "steps": 3,
        "batch_size": 8,
        "dataset": dataset,
        "model": {"trunk": _TRUNK, "heads": {name: [{"layer": "Dense", "units": n}] for name, n in heads.items()}},
        "losses": losses,
        "combine": {"name": "weighted"},
        "reduction": "fused",
        **more,
    }
    return trainer.train(tree, folder / "run", strategy="one_device", allow_cpu=True, progress=False)


def _table(count: int, seed: int) -> pd.DataFrame:
    """Numbers of which some are absent, whole ones that are categories, and text."""
    random = np.random.RandomState(seed)
    frame = pd.DataFrame({"blood pressure": random.normal(100, 15, count), "1st/visit": random.randint(20, 80, count)})
    frame.loc[::7, "blood pressure"] = np.nan
    frame["ward"] = pd.Series(random.randint(1, 4, count), dtype="Int64").mask(random.uniform(size=count) < 0.1)
    frame["city"] = np.where(random.uniform(size=count) < 0.1, "", random.choice(_CITIES, count))
    frame["risk"] = 1e6 + frame["1st/visit"] + random.normal(size=count)
    frame["kind"] = random.choice(["high", "low"], count)
    return frame


def _source(folder: pathlib.Path, name: str = "table", **more: Any) -> dict[str, Any]:
    inputs = {
        "numbers": {"feature": ["blood pressure", "1st/visit"], "prepare": ["fill", "standardise"]},
        "ward": {"prepare": ["categories"]},
        "city": {"prepare": ["categories"]},
    }
    targets = {"risk": {"prepare": ["standardise"]}, "kind": {"prepare": ["classes"]}}
    (folder / name).mkdir()
    for split, (count, seed) in {"train": (60, 0), "validation": (20, 1)}.items():
        _table(count, seed).to_csv(folder / name / f"{split}.csv", index=False)
    return {"name": "csv", "path": str(folder / name), "inputs": inputs, "targets": targets, **more}


_LOSSES = {"risk": {"loss": "mse"}, "kind": _CLASSES}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> trainer.Run:
    folder = tmp_path_factory.mktemp("saved_model")
    more = {"model": {"trunk": _TRUNK, "recompute": True, "heads": {"risk": [_dense(1)], "kind": [_dense(2)]}}}
    return _trained(_source(folder), {}, _LOSSES, folder, **more)


def _dense(units: int) -> dict[str, Any]:
    return {"layer": "Dense", "units": units}


@pytest.fixture
def untried(monkeypatch) -> None:
    """Exports are not run in a process of their own: the test loads them itself."""
    monkeypatch.setattr(checking, "check", lambda *arguments, **options: 0.0)


def _assert_equal(answer: dict[str, tf.Tensor], expected: dict[str, np.ndarray]) -> None:
    assert set(answer) == set(expected) - {"row", "file"}
    for name, tensor in answer.items():
        values = tensor.numpy()
        if values.dtype == object:
            assert [each.decode() for each in values] == list(expected[name])
        else:
            np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6)


def _columns(frame: pd.DataFrame) -> dict[str, tf.Tensor]:
    """The columns as a caller sends them."""
    return {
        "blood_pressure": tf.constant(frame["blood pressure"], tf.float64),
        "feature_1st_visit": tf.constant(frame["1st/visit"], tf.float64),
        "ward": tf.constant(frame["ward"].fillna(_ABSENT).astype("int64")),
        "city": tf.constant(frame["city"]),
    }


def _proto(row: dict[str, Any]) -> bytes:
    """A row as `tf.train.Example`, without what is absent."""
    example = tf.train.Example()
    for name in ("blood pressure", "1st/visit"):
        if not np.isnan(row[name]):
            example.features.feature[name].float_list.value.append(row[name])
    if not pd.isna(row["ward"]):
        example.features.feature["ward"].int64_list.value.append(row["ward"])
    if row["city"]:
        example.features.feature["city"].bytes_list.value.append(row["city"].encode())
    return example.SerializeToString()


def test_a_table_is_answered_from_its_columns(run, untried, tmp_path):
    """Absent values, unknown categories and fractions of what were whole numbers among them; from protos, too."""
    rows = _table(33, 2)
    rows.loc[0, ["ward", "city"]] = [77, "Atlantis"]
    rows["1st/visit"] += 0.5
    path = run.export(tmp_path / "2")
    loaded = tf.saved_model.load(str(path))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    expected = run.predict(data=str(tmp_path / "rows.csv"))
    _assert_equal(loaded.signatures["serving_default"](**_columns(rows)), expected)
    protos = [_proto(row) for row in rows.to_dict("records")]
    answer = loaded.signatures["examples"](examples=tf.constant(protos))
    assert answer["risk"].numpy() == pytest.approx(expected["risk"], rel=1e-7)  # real numbers in float32
    text = (path / "signature.md").read_text()
    told: dict[str, Any] = {}
    exec(text.split("```python\n")[-1].split("```")[0], told)  # noqa: S102
    assert set(told["answer"]) == {"risk", "kind", "kind/probability"}
    for line in (
        "| `blood_pressure` | float64 | one value | `blood pressure` of the source; absent: NaN |",
        "| `feature_1st_visit` | float64 | one value | `1st/visit` of the source; absent: NaN |",
        "| `kind/probability` | float32 | 2 | probability of each class of target 'kind': high, low |",
    ):
        assert line in text
    assert "after 3 steps" in text
    assert '"serving_default"' in text
    assert f"{tmp_path.name}:predict" in text  # the folder of versions is the model's name


def _codes(train: pd.Series, rows: pd.Series) -> np.ndarray:
    """1, 2, ... from the most frequent value in training on, 0 for others; absent ones are a value, too."""
    counts, values = (each.astype("object").fillna(_ABSENT) for each in (train, rows))
    counts = counts.value_counts()
    order = sorted(counts.index, key=lambda value: (-counts[value], str(value)))
    return np.array([1 + order.index(each) if each in order else 0 for each in values], np.int64)


@pytest.mark.ci_only
def test_values_are_those_of_the_network_in_units(run, untried, tmp_path):
    """By NumPy, from the run's own Keras model and the training table."""
    train, rows = _table(60, 0), _table(9, 3)
    numbers, mean = train[["blood pressure", "1st/visit"]], train["risk"].mean()
    filled = [each[numbers.columns].fillna({"blood pressure": 0.0}) for each in (train, rows)]
    prepared = ((filled[1] - filled[0].mean()) / filled[0].std(ddof=0)).to_numpy(np.float32)
    codes = {name: _codes(train[name], rows[name]) for name in ("ward", "city")}
    inputs = {"numbers": prepared, **codes}
    heads = run.model(inputs, training=False)
    run.export(tmp_path / "model")
    answer = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"](**_columns(rows))
    risk = heads["risk"].numpy()[:, 0].astype(np.float64) * train["risk"].std(ddof=0) + mean
    assert answer["risk"].numpy() == pytest.approx(risk, rel=1e-9)
    assert answer["kind/probability"].numpy() == pytest.approx(tf.nn.softmax(heads["kind"]).numpy(), abs=1e-6)


@pytest.mark.ci_only
def test_training_data_need_not_be_there(run, tmp_path):
    """Examples are made up then; the export is tried in a process of its own all the same."""
    source = pathlib.Path(run.config["dataset"]["path"])
    away = source.rename(source.with_name("away"))
    try:
        path = run.export(tmp_path / "model")
    finally:
        away.rename(source)
    assert "8 examples (made up)" in (path / "signature.md").read_text()
    loaded = tf.saved_model.load(str(path))
    rows = _table(9, 4)
    _assert_equal(loaded.signatures["serving_default"](**_columns(rows)), run.predict(data=rows))


def _jpeg(pixels: np.ndarray, orientation: int) -> bytes:
    image, buffer = PIL.Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def _picture_folder(folder: pathlib.Path) -> tuple[dict[str, Any], Callable[[], dict[str, Any]], pathlib.Path]:
    random = np.random.RandomState(0)
    for index in range(48):
        path = folder / "pictures" / ("train" if index < 32 else "validation") / "ab"[index % 2] / f"{index:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(random.randint(0, 255, (9 + index % 3, 7, 3)).astype(np.uint8), 1 + index % 8))
    prepare = [{"name": "resize", "height": 4, "width": 4}, "scale", {"name": "reshape", "shape": [48]}]
    dataset = {"name": "image_folder", "path": str(folder / "pictures"), "targets": {"label": {}}}
    dataset |= {"inputs": {"image": {"prepare": prepare}}}
    data = folder / "pictures" / "validation"
    return dataset, lambda: {"image": [path.read_bytes() for path in sorted(data.rglob("*.jpg"))]}, data


def _records(folder: pathlib.Path) -> tuple[dict[str, Any], Callable[[], Any], pathlib.Path]:
    """Pictures, a number that may be absent, a list of words, and one of up to four numbers."""
    random, records = np.random.RandomState(0), []
    (folder / "records").mkdir()
    for index in range(24):
        features = {
            "picture": user_files.png(random.randint(0, 255, (2, 3, 3))),
            "words": [b"red", b"blue"][: index % 3],
            "tokens": list(range(index % 5)),
            "label": index % 2,
        }
        records.append(features | ({"age": float(index)} if index % 4 else {}))
    written = [_record(each) for each in records]
    for split in ("train", "validation"):
        with tf.io.TFRecordWriter(str(folder / "records" / f"{split}.tfrecord")) as file:
            for each in written:
                file.write(each)
    stored = {
        "picture": {"dtype": "uint8", "shape": [2, 3, 3], "encoding": "image"},
        "words": {"dtype": "string", "classes": ["red", "blue"]},
        "tokens": {"dtype": "int64", "shape": [4], "pad": -1},
        "age": {"dtype": "float32", "optional": True},
        "label": "int64",
    }
    inputs = {
        "picture": {"prepare": ["scale", {"name": "reshape", "shape": [18]}]},
        "words": {},
        "tokens": {"prepare": ["scale"]},
        "age": {"prepare": ["fill", "standardise"]},
    }
    dataset = {"name": "tfrecord", "path": str(folder / "records"), "options": {"features": stored}}
    dataset |= {"inputs": inputs, "targets": {"label": {}}}
    return dataset, lambda: written, folder / "records" / "validation.tfrecord"


def _record(features: dict[str, Any]) -> bytes:
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        own = example.features.feature[name]
        if values:
            getattr(own, kinds[type(values[0])]).value.extend(values)
    return example.SerializeToString()


@pytest.mark.ci_only
@pytest.mark.parametrize("make", [_picture_folder, _records])
def test_pictures_are_answered_from_their_bytes(make, untried, tmp_path):
    """Of JPEG with every orientation and of varying size; of records, as they are."""
    dataset, raw, data = make(tmp_path)
    run = _trained(dataset, {"label": 2}, {"label": _CLASSES}, tmp_path)
    run.export(tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    expected, given = run.predict(data=str(data)), raw()
    if isinstance(given, dict):
        _assert_equal(signatures["serving_default"](**{k: tf.constant(v) for k, v in given.items()}), expected)
    else:
        _assert_equal(signatures["examples"](examples=tf.constant(given)), expected)


@pytest.mark.ci_only
def test_one_of_several_sources_is_answered(untried, tmp_path):
    sources = {name: _source(tmp_path, name, quota=4) for name in ("a", "b")}
    run = _trained({"sources": sources}, {"risk": 1, "kind": 2}, _LOSSES, tmp_path)
    with pytest.raises(ConfigError, match=r"^--source: is missing: the run has several sources \(a, b\)"):
        run.export(tmp_path / "model")
    run.export(tmp_path / "model", source="b")
    rows = _table(9, 5)
    answer = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"](**_columns(rows))
    _assert_equal(answer, run.predict(data=rows, source="b"))


def test_nothing_is_replaced_or_left_half_written(run, monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match=r"^--output='.*there': exists already"):
        run.export(tmp_path / "there")
    with pytest.raises(ConfigError, match=r"^--output='.*model': must be the name of a file that ends in \.keras"):
        run.export(tmp_path / "model", "keras")
    with pytest.raises(ConfigError, match=r"^--format='torch': unknown format; .*allowed: keras, .*saved_model"):
        run.export(tmp_path / "model", "torch")

    def disagree(*arguments: Any, **options: Any) -> float:
        assert [path.name for path in tmp_path.iterdir()] != ["there"]  # it is written, under another name
        raise RunError("it does not agree")

    monkeypatch.setattr(checking, "check", disagree)
    with pytest.raises(RunError, match="it does not agree"):
        run.export(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
