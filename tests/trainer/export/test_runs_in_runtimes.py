"""Runs exported to other runtimes: their answers have the metrics of the run's evaluation, or do not stay."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import tensorflow as tf

import trainer
from trainer.common.errors import RunError
from trainer.export import formats, own_runtime

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
NUMBERS, CITIES, KINDS = ["age in years", "income"], ["Bonn", "Oslo", "Rome"], ["north", "old", "south"]


def _table(count: int, seed: int) -> pd.DataFrame:
    random = np.random.RandomState(seed)
    columns = [random.randint(18, 80, count), random.normal(1e6, 2e5, count), random.choice(CITIES, count)]
    frame = pd.DataFrame(dict(zip([*NUMBERS, "city"], columns, strict=True)))
    age, income = (frame[name] for name in NUMBERS)
    frame["price"] = 2e3 + 2.5 * age + income / 1e4
    frame["kind"] = np.where(age > 50, "old", np.where(frame["city"] == "Oslo", "north", "south"))
    frame["rich"] = (income > 1e6).astype(int)
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> trainer.Run:
    """A run on a table of numbers and text, with losses on a value in units, on classes by name, and on yes or no."""
    root = tmp_path_factory.mktemp("runtimes")
    for split, (count, seed) in {"train": (96, 0), "validation": (21, 1)}.items():
        _table(count, seed).to_csv(root / f"{split}.csv", index=False)
    numbers = {"feature": NUMBERS, "prepare": ["standardise"]}
    tree = {
        "steps": 12,
        "batch_size": 32,
        "dataset": {
            "name": "csv",
            "path": str(root),
            "splits": {split: f"{split}.csv" for split in ("train", "validation")},
            "inputs": {"numbers": numbers, "city": {"prepare": ["categories"]}},
            "targets": {"price": {"prepare": ["log", "standardise"]}, "kind": {"prepare": ["classes"]}, "rich": {}},
        },
        "model": {
            "trunk": [{"layer": "Dense", "units": 8, "activation": "tanh"}],
            "heads": {
                name: [{"layer": "Dense", "units": units}] for name, units in {"price": 1, "kind": 3, "rich": 1}.items()
            },
        },
        "losses": {
            "price": {"loss": "mse"},
            "kind": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}, "metrics": "accuracy"},
            "rich": {"loss": {"name": "binary_crossentropy", "from_logits": True}},
        },
        "optimizer": {"name": "adam", "learning_rate": 0.05},
    }
    return trainer.train(tree, root / "run", strategy="one_device", allow_cpu=True, progress=False)


def _prepared() -> dict[str, np.ndarray]:
    """The validation split as the model takes it, by NumPy."""
    train, rows = _table(96, 0), _table(21, 1)
    statistics = train[NUMBERS].mean(), train[NUMBERS].std(ddof=0)
    numbers = ((rows[NUMBERS] - statistics[0]) / statistics[1]).to_numpy(np.float32)
    counts = train["city"].value_counts()
    order = sorted(CITIES, key=lambda city: (-counts[city], city))  # the most frequent first, from 1
    return {"numbers": numbers, "city": rows["city"].map(order.index).to_numpy(np.int64) + 1}


@pytest.mark.parametrize("name", ["onnx", pytest.param("tflite", marks=pytest.mark.ci_only)])
def test_a_run_answers_in_units_and_words_from_prepared_numbers(run, name, tmp_path):
    """Its metrics, computed by scikit-learn from what the file gives, are those of the run's evaluation."""
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package)
    path = run.export(tmp_path / f"export.{name}", name)
    page = path.with_name(f"{path.name}.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"export.{name}", f"export.{name}.md"]
    found = own_runtime.RUNTIMES[name][0](str(tmp_path / f"export.{name}"), _prepared(), {})
    rows, evaluated = _table(21, 1), run.evaluate()
    deviation = np.std(np.log1p(_table(96, 0)["price"]))
    error = sklearn.metrics.mean_squared_error(np.log1p(rows["price"]), np.log1p(found["price"].astype(np.float64)))
    assert error / deviation**2 == pytest.approx(evaluated["loss/price"], rel=1e-6, abs=1e-6 if name == "tflite" else 0)
    kinds = [each if isinstance(each, str) else each.decode() for each in found["kind"]]
    assert sklearn.metrics.accuracy_score(rows["kind"], kinds) == pytest.approx(evaluated["kind/accuracy"], abs=1e-6)
    for loss, labels in {"kind": KINDS, "rich": [0, 1]}.items():
        entropy = sklearn.metrics.log_loss(rows[loss], found[f"{loss}/probability"].astype(np.float64), labels=labels)
        assert entropy == pytest.approx(evaluated[f"loss/{loss}"], rel=1e-6)
    assert f"| `price` | {found['price'].dtype} |" in page
    assert "onnxruntime.InferenceSession(" in page or "tf.lite.Interpreter(" in page


def test_an_export_that_does_not_agree_is_removed(run, tmp_path):
    """Here, as no rounding at all is allowed."""
    pytest.importorskip("tf2onnx")
    with pytest.raises(RunError, match=r"^--format=onnx: .* output '.*' differs by .*, allowed are 0 \(--tolerance\)$"):
        run.export(tmp_path / "export.onnx", "onnx", tolerance=0.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.ci_only
def test_a_servers_request_is_answered(run, tmp_path):
    """The messages of TensorFlow Serving, from a request for raw rows to the response."""
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    run.export(tmp_path / "1")
    signature = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    request, rows = predict_pb2.PredictRequest(), _table(21, 1)
    request.model_spec.name, request.model_spec.signature_name = "run", "serving_default"
    for name, spec in signature.structured_input_signature[1].items():
        column = rows[{each.replace(" ", "_"): each for each in rows}[name]]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column.tolist(), spec.dtype))
    received = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    answer = signature(**{name: tf.constant(tf.make_ndarray(proto)) for name, proto in received.inputs.items()})
    response = predict_pb2.PredictResponse(model_spec=received.model_spec)
    for name, tensor in answer.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    outputs = predict_pb2.PredictResponse.FromString(response.SerializeToString()).outputs
    expected = run.predict(data=rows)
    assert set(outputs) == {"price", "kind", "kind/probability", "rich", "rich/probability"}
    for name, proto in outputs.items():
        values = tf.make_ndarray(proto)
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6)
        else:
            assert [each.decode() if isinstance(each, bytes) else each for each in values] == list(expected[name])
