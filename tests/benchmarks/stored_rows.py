"""The same rows as Parquet and as TFRecords, each with a configuration that streams them."""

import pathlib
import pprint
from collections.abc import Mapping

import pyarrow
import pyarrow.csv
import pyarrow.parquet
import tensorflow as tf

from tests.benchmarks import processes
from tests.benchmarks.problems import Preset

_TABLE = processes.ROOT / "configs" / "diabetes.csv"
_TARGETS = ("progression", "bp")
_REPEATED = {"train": 100, "validation": 1}
_ROW_GROUP = 1024
_CONFIGURATION = """from configs import own_table


def get_config():
    config = own_table.get_config()
    config.dataset = {"targets": config.dataset.targets.to_dict(), **OF_ROWS}
    return config


OF_ROWS = """


def write(folder: pathlib.Path, batch_size: int) -> dict[str, Preset]:
    """Returns "Parquet" and "TFRecord" → configs/own_table.py on its rows, a hundred times over, as such files."""
    rows = pyarrow.csv.read_csv(_TABLE)
    rows = rows.cast(pyarrow.schema([(name, pyarrow.float32()) for name in rows.column_names]))
    for split, repeated in _REPEATED.items():
        table = pyarrow.concat_tables([rows] * repeated).combine_chunks()
        pyarrow.parquet.write_table(table, folder / f"{split}.parquet", row_group_size=_ROW_GROUP)
        with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as file:
            for row in table.to_pylist():
                file.write(_record(row))
    inputs = {"numbers": {"feature": [name for name in rows.column_names if name not in _TARGETS]}}
    inputs["numbers"]["prepare"] = ["standardise"]
    options = {"Parquet": {}, "TFRecord": {"features": dict.fromkeys(rows.column_names, "float32")}}
    presets = {}
    for name, of_kind in options.items():
        kind = name.lower()
        dataset = {"name": kind, "path": str(folder), "options": of_kind, "inputs": inputs, "feed": "streaming"}
        dataset["splits"] = {split: f"{split}.{kind}" for split in _REPEATED}
        path = folder / f"{kind}.py"
        path.write_text(f"{_CONFIGURATION}{pprint.pformat(dataset)}\n")
        presets[name] = Preset(str(path), {"batch_size": str(batch_size)})
    return presets


def _record(row: Mapping[str, float]) -> bytes:
    features = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[value])) for name, value in row.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
