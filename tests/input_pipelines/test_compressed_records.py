"""Compressed TFRecord files are read like others, each as a whole; what was cut off is never taken for the end."""

import gzip
import pathlib
import struct
import zlib

import numpy as np
import pytest

from input_pipelines.sources import compression, record_files
from input_pipelines.sources.record_files import Part
from tests.input_pipelines import reading, user_files
from tests.input_pipelines.plain_records import PLAIN
from trainer.common.errors import ConfigError

_FEATURES = {"x": {"dtype": "float32", "shape": [40]}, "index": "int64"}
_COUNT = 43
_KINDS = (compression.GZIP, compression.ZLIB)


def _values() -> np.ndarray:
    return np.random.RandomState(0).normal(size=(_COUNT, 40)).astype(np.float32)


def _write(folder: pathlib.Path, kinds: dict[str, tuple[str, int, int]]) -> None:
    """File → its compression and its records, from the first to before the last."""
    values = _values()
    for name, (kind, first, last) in kinds.items():
        records = [{"x": values[index], "index": index} for index in range(first, last)]
        user_files.write_records(folder / name, records, kind)


def _tree(folder: pathlib.Path, pattern: str) -> dict:
    splits = dict.fromkeys(user_files.COUNTS, pattern)
    return {"name": "tfrecord", "path": str(folder), "options": {"features": _FEATURES}, "splits": splits, **PLAIN}


@pytest.mark.parametrize("feed", reading.FEEDS)
def test_compressed_and_other_files_together(tmp_path, feed):
    files = {
        "a": ("GZIP", 0, 20),
        "b": ("", 20, 30),
        "c": ("ZLIB", 30, 30),
        "d": ("ZLIB", 30, 42),
        "e": ("GZIP", 42, 43),
    }
    _write(tmp_path, files)
    split = reading.build(_tree(tmp_path, "*"), feed=feed).splits["train"]
    reading.assert_gives(split, {"inputs": _values(), "targets.index": np.arange(_COUNT)}, by="targets.index")


@pytest.mark.parametrize(("window", "blocks"), [(8, 1), (60, 3), (1000, 50)])
def test_a_window_is_of_as_many_files_as_have_its_examples(tmp_path, window, blocks):
    _write(tmp_path, {"a": ("GZIP", 0, 20), "b": ("GZIP", 0, 20)})
    made = record_files.blocks([Part(str(tmp_path / name)) for name in "ab"], window, "field")
    assert (made.sizes.tolist(), made.mixed) == ([20, 20], blocks)
    assert made.where(25) == f"{tmp_path}/b, record 5"


@pytest.mark.parametrize("kind", _KINDS)
def test_whatever_is_cut_off_is_noticed(tmp_path, kind):
    """TensorFlow alone takes the end of a cut GZIP file for the end of the data."""
    _write(tmp_path, {"whole": (kind, 0, _COUNT)})
    data = (tmp_path / "whole").read_bytes()
    cut = str(tmp_path / "cut")
    for length in [*range(40, len(data), 97), *range(len(data) - 9, len(data))]:
        pathlib.Path(cut).write_bytes(data[:length])
        with pytest.raises(ConfigError, match=rf"field='{cut}': is damaged or cut off after record \d+ \({kind}\)"):
            record_files.blocks([Part(cut)], 16, "field")
    for place in range(40, len(data), 397):
        pathlib.Path(cut).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ConfigError, match="is damaged or cut off|is no TFRecord file"):
            record_files.blocks([Part(cut)], 16, "field")
    with pytest.raises(ConfigError, match=r"dataset\.splits\.train=.*cut"):
        reading.build(_tree(tmp_path, "cut"))


def test_joined_files(tmp_path):
    """Of GZIP all is read, as by `gunzip`; TensorFlow reads the first of several ZLIB streams alone."""
    for kind in _KINDS:
        _write(tmp_path, {"one": (kind, 0, 20), "two": (kind, 20, _COUNT)})
        (tmp_path / kind).write_bytes((tmp_path / "one").read_bytes() + (tmp_path / "two").read_bytes())
    given = reading.in_order(reading.build(_tree(tmp_path, "GZIP")).splits["train"])
    np.testing.assert_array_equal(given["targets.index"], np.arange(_COUNT))
    with pytest.raises(ConfigError, match=r"after record 20 \(ZLIB\): something follows on its end"):
        reading.build(_tree(tmp_path, "ZLIB"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", ""),
        (b"plain", ""),
        (struct.pack("<Q", 0x088B1F) + b"\3" * 90, ""),  # lengths of a record that look like compression
        (struct.pack("<Q", 0x9C78) + b"\3" * 90, ""),
        (struct.pack("<Q", 0x0178) + b"\3" * 90, ""),
        (gzip.compress(b""), "GZIP"),
        (gzip.compress(b"text"), "GZIP"),
        (zlib.compress(b"text", level=1), "ZLIB"),
        (zlib.compress(b"text", level=9), "ZLIB"),
    ],
    ids=["empty", "plain", "length 1f8b", "length 789c", "length 7801", "no data", "gzip", "zlib 1", "zlib 9"],
)
def test_compression_is_seen_in_the_file(tmp_path, data, kind):
    (tmp_path / "a").write_bytes(data)
    assert compression.of(str(tmp_path / "a")) == kind
    if b"text" in data or kind and len(data) > 20:
        with pytest.raises(ConfigError, match=rf"within record 0, or is no TFRecord file \({kind}\)|after record 0"):
            compression.record_count(str(tmp_path / "a"), kind, "field")
