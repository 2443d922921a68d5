"""No file of data is unpickled: an object that makes a file where it is loaded makes none."""

import pathlib
import pickle

import numpy as np
import pytest

from tests.input_pipelines import reading
from trainer.common.errors import ConfigError

TARGETS = {"y": {"prepare": ["standardise"]}}
INPUTS = {"x": {}}


class Payload:
    """An object whose pickle makes a file where it is loaded."""

    def __init__(self, marker: pathlib.Path):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def _npz(folder: pathlib.Path, payload: Payload) -> dict:
    np.savez(folder / "train.npz", x=np.array([payload]), y=np.zeros(1))
    return {"name": "npz", "path": str(folder / "train.npz")}


def _npy(folder: pathlib.Path, payload: Payload) -> dict:
    np.save(folder / "train.npy", np.array([payload]))
    return {"name": "npz", "path": str(folder / "train.npy")}


def _plain(folder: pathlib.Path, payload: Payload) -> dict:
    (folder / "train.npz").write_bytes(pickle.dumps(payload))
    return {"name": "npz", "path": str(folder / "train.npz")}


def _csv(folder: pathlib.Path, payload: Payload) -> dict:
    (folder / "train.csv").write_bytes(b"x,y\n" + pickle.dumps(payload, 0))
    return {"name": "csv", "path": str(folder / "train.csv")}


def _tfrecord(folder: pathlib.Path, payload: Payload) -> dict:
    (folder / "train.tfrecord").write_bytes(pickle.dumps(payload))
    features = {"features": {"x": "float32", "y": "float32"}}
    return {"name": "tfrecord", "path": str(folder / "train.tfrecord"), "options": features}


def _pictures(folder: pathlib.Path, payload: Payload) -> dict:
    for name in "ab":
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "1.png").write_bytes(pickle.dumps(payload))
    inputs, targets = {"image": {"prepare": [{"name": "resize", "height": 2, "width": 2}]}}, {"label": {}}
    return {"name": "image_folder", "path": str(folder), "inputs": inputs, "targets": targets}


def _tfds(folder: pathlib.Path, payload: Payload) -> dict:
    for name in ("dataset_info.json", "features.json"):
        (folder / name).write_bytes(pickle.dumps(payload))
    return {"name": "tfds", "path": str(folder)}


@pytest.mark.parametrize("write", [_npz, _npy, _plain, _csv, _tfrecord, _pictures, _tfds])
def test_no_data_are_unpickled(tmp_path, write):
    payload = Payload(tmp_path / "unpickled")
    (tmp_path / "data").mkdir()
    tree = {"inputs": INPUTS, "targets": TARGETS, "held_out": 0.5, **write(tmp_path / "data", payload)}
    with pytest.raises(ConfigError):
        reading.build(tree)
    assert not payload.marker.exists()
    pickle.loads(pickle.dumps(payload))
    assert payload.marker.exists()
