"""Runs an export by its own runtime: a program by itself, which imports that runtime and nothing of this project.

    python -P own_runtime.py FORMAT PATH FOLDER [MODULE:NAME ...]

`FOLDER/inputs.npz` holds the inputs by name, and `FOLDER/outputs.npz` gets the outputs by name, examples first, text as
bytes objects (`write`). Each NAME is a layer of the user's own, which Keras must be given to load the export.
Where the export cannot be loaded or run, `FOLDER/reason` gets the runtime's reason, and the exit code is 1.
"""

import importlib
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]

INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"
_PROJECT = ("trainer", "input_pipelines", "configs", "launch")


def _saved_model(path: str, inputs: Arrays, own: Mapping[str, object]) -> Arrays:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    return signature(**{name: tf.constant(inputs[name], spec.dtype) for name, spec in specs.items()})


def _keras(path: str, inputs: Arrays, own: Mapping[str, object]) -> Arrays:
    import keras

    model = keras.saving.load_model(path, custom_objects=own)
    outputs = model(inputs["inputs"] if list(inputs) == ["inputs"] else inputs, training=False)
    return {"/".join(map(str, way)) or "output": each for way, each in keras.tree.flatten_with_path(outputs)}


def _tflite(path: str, inputs: Arrays, own: Mapping[str, object]) -> Arrays:
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_path=path).get_signature_runner()
    details = runner.get_input_details()
    given = {name: inputs[name].astype(detail["dtype"]) for name, detail in details.items()}
    if all(detail["shape_signature"][0] == -1 for detail in details.values()):
        return runner(**given)
    count = len(next(iter(given.values())))
    singly = [runner(**{name: array[i : i + 1] for name, array in given.items()}) for i in range(count)]
    return {name: np.concatenate([each[name] for each in singly]) for name in singly[0]}


def _onnx(path: str, inputs: Arrays, own: Mapping[str, object]) -> Arrays:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    given = {
        each.name: inputs[each.name].astype(dtypes.get(each.type, inputs[each.name].dtype))
        for each in session.get_inputs()
    }
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, given), strict=True))


# Format → what runs it, and the packages that this must do without, beside the project's own. Keras imports two of
# them for parts that no model needs, which takes as long as Keras itself.
RUNTIMES: Mapping[str, tuple[Callable[[str, Arrays, Mapping[str, object]], Arrays], tuple[str, ...]]] = {
    "keras": (_keras, ("matplotlib", "sklearn")),
    "saved_model": (_saved_model, ("keras",)),
    "tflite": (_tflite, ("keras",)),
    "onnx": (_onnx, ("keras", "tensorflow")),
}


def _plain(output: object) -> np.ndarray:
    """The output as an array; text as bytes objects."""
    array = np.asarray(output)
    if array.dtype.kind == "V":  # bfloat16
        return array.astype(np.float32)
    if array.dtype.kind not in "OUS":
        return array
    return _objects(
        [each.encode() if isinstance(each, str) else bytes(each) for each in array.reshape(-1)], array.shape
    )


def write(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes arrays by name so that no pickle is needed to read them: bytes objects as one array, beside their ends."""
    names, parts = list(arrays), {}
    for index, array in enumerate(arrays.values()):
        if array.dtype == object:
            flat = array.reshape(-1).tolist()
            parts[f"bytes{index}"] = np.frombuffer(b"".join(flat), np.uint8)
            parts[f"ends{index}"] = np.cumsum([len(each) for each in flat], dtype=np.int64).reshape(array.shape)
        else:
            parts[f"array{index}"] = array
    np.savez(path, names=np.array(names, np.str_), **parts)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays that `write` wrote."""
    with np.load(path, allow_pickle=False) as parts:
        return {
            str(name): _bytes_objects(parts[f"bytes{index}"].tobytes(), parts[f"ends{index}"])
            if f"ends{index}" in parts
            else parts[f"array{index}"]
            for index, name in enumerate(parts["names"])
        }


def _bytes_objects(joined: bytes, ends: np.ndarray) -> np.ndarray:
    starts = [0, *ends.reshape(-1).tolist()]
    return _objects([joined[start:end] for start, end in zip(starts, starts[1:], strict=False)], ends.shape)


def _objects(values: Sequence[bytes], shape: Sequence[int]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(shape)


def main(name: str, path: str, folder: pathlib.Path, needs: list[str]) -> int:
    """Runs the export at `path`; returns the exit code."""
    run, absent = RUNTIMES[name]
    if not needs:  # a user's own module may import anything
        sys.modules.update(dict.fromkeys((*absent, *_PROJECT)))  # None: importing it fails
    warnings.simplefilter("ignore")
    try:
        own = {each: getattr(importlib.import_module(module), each) for module, each in map(_apart, needs)}
        outputs = run(path, read(folder / INPUTS), own)
        write(folder / OUTPUTS, {each: _plain(output) for each, output in outputs.items()})
    except Exception as error:
        (folder / "reason").write_text(f"{error}" or type(error).__name__, encoding="utf-8", errors="backslashreplace")
        return 1
    return 0


def _apart(path: str) -> tuple[str, str]:
    module, _, name = path.partition(":")
    return module, name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:]))
