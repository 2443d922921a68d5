"""Files of `tests.input_pipelines.user_files` with examples that cannot be used, and what a scan says of each."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from tests.input_pipelines import user_files


def break_rows(folder: pathlib.Path) -> list[str]:
    """A gap in an input, a class beyond the head's, infinity in a target; rows 4 and 11 of training, 6 to validate."""
    for name, broken in (("train", {4: (0, ""), 11: (3, "7")}), ("validation", {6: (4, "inf")})):
        path = folder / f"{name}.csv"
        rows = path.read_text().splitlines()
        for row, (column, value) in broken.items():
            fields = rows[row - 1].replace("blue, light", "blue; light").split(",")
            fields[column] = value
            rows[row - 1] = ",".join(fields)
        path.write_text("\n".join(rows) + "\n")
    return [
        "train.csv, row 4: .*NaN.*'first'",
        "train.csv, row 11: target 'kind' holds 7",
        "validation.csv, row 6: .*inf",
    ]


def break_arrays(folder: pathlib.Path) -> list[str]:
    arrays = user_files.examples("train")
    arrays["picture"] = arrays["picture"].astype(float)
    arrays["picture"][3, 2, 1, 0] = arrays["picture"][8, 0, 0, 0] = np.nan
    arrays["kind"][[5, 50]] = -1, 3
    np.savez(folder / "train.npz", **arrays)
    other = user_files.examples("validation")
    np.savez(folder / "validation.npz", **other | {"picture": other["picture"].astype(float)})
    return [
        *(f"train.npz, example {row}: .*NaN" for row in (3, 8)),
        "train.npz, example 5: target 'kind' holds -1",
        "train.npz, example 50: target 'kind' holds 3",
    ]


def break_records(folder: pathlib.Path) -> list[str]:
    """Three pictures that are none, a class beyond the head's, and a record whose bytes are damaged."""
    records = user_files.as_records("train")[:18]
    records[2]["picture"] = records[9]["picture"] = b"no picture"
    records[13]["kind"] = 9
    user_files.write_records(folder / "train-00000-of-00003.tfrecord", records)
    other = user_files.as_records("validation")[:7]
    other[0]["picture"] = other[0]["picture"][:40]
    user_files.write_records(folder / "validation-00000-of-00003.tfrecord", other)
    path = folder / "validation-00002-of-00003.tfrecord"
    data = bytearray(path.read_bytes())
    data[30] ^= 255
    path.write_bytes(data)
    return [
        "train-00000-of-00003.tfrecord, record 2: ",
        "train-00000-of-00003.tfrecord, record 9: ",
        "train-00000-of-00003.tfrecord, record 13: target 'kind' holds 9",
        "validation-00000-of-00003.tfrecord, record 0: ",
        "validation-00002-of-00003.tfrecord, record 0: ",
    ]


def break_pictures(folder: pathlib.Path) -> list[str]:
    broken = [
        next((folder / split / kind).iterdir()) for split, kind in (("train", "a"), ("train", "c"), ("validation", "b"))
    ]
    for path in broken:
        path.write_bytes(b"no picture")
    return [f"{path}: " for path in broken]


BROKEN: Mapping[str, Callable[[pathlib.Path], list[str]]] = {
    "csv": break_rows,
    "npz": break_arrays,
    "tfrecord": break_records,
    "image_folder": break_pictures,
}
