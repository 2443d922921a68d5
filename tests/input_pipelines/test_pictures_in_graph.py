"""Pictures decoded without Python are those that training decodes, or are refused."""

import io
import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import pictures, pictures_in_graph
from input_pipelines.sources.encoded_pictures import PictureOptions

_COLOUR, _GREY = (7, 11, 3), (7, 11)


def _encoded(kind: str, shape: tuple[int, ...] = _COLOUR, dtype: str = "uint8", **options) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.RandomState(len(shape)).randint(0, np.iinfo(dtype).max, shape).astype(dtype)
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int, order: str, kind: int = 3) -> bytes:
    """EXIF with a maker, and an orientation as a number of 16 (kind 3) or 32 bits (kind 4)."""
    own = struct.pack(f"{order}HHI", 0x0112, kind, 1) + struct.pack(f"{order}{'H' if kind == 3 else 'I'}", orientation)
    entries = [struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"abc\0"), own.ljust(12, b"\0")]
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return header + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def _turned(kind: str) -> list[bytes]:
    """A picture with each orientation, in either order of bytes; and some that say nothing that can be."""
    exif = [_exif(number, "<>"[number % 2]) for number in range(1, 9)] + [_exif(6, ">", 4), _exif(6, "<", 4)]
    exif += [_exif(9, "<"), _exif(6, "<")[:20]]
    return [_encoded(kind, exif=each if kind == "PNG" else b"Exif\0\0" + each) for each in exif]


def _animation() -> bytes:
    buffer = io.BytesIO()
    frames = [PIL.Image.fromarray(np.full(_COLOUR, value, np.uint8)) for value in (10, 200)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _decoded(decode, encoded: list[bytes], spec: tf.TensorSpec, size=None, **options) -> list[np.ndarray]:
    """Without a graph, which takes seconds to trace; tests of exports have one."""
    return [decode(tf.constant([each]), spec, size, **options).numpy() for each in encoded]


def _spec(channels: int, dtype: tf.DType = tf.uint8) -> tf.TensorSpec:
    return tf.TensorSpec((None, None, channels), dtype)


@pytest.mark.parametrize(
    ("encoded", "spec", "options"),
    [
        ([*_turned("JPEG"), *_turned("PNG")], _spec(3), {}),
        ([*_turned("JPEG")[4:8]], _spec(3), {"options": PictureOptions(orientation=False, first_frame=False)}),
        ([_encoded("PNG", _GREY), _encoded("JPEG", _GREY), _encoded("PNG", (*_GREY, 4))], _spec(3), {}),
        ([_encoded("PNG"), _encoded("PNG", (*_GREY, 4))], _spec(4), {}),
        ([_encoded("PNG", _GREY, "uint16")], _spec(1, tf.uint16), {}),
        ([_encoded("PNG"), _encoded("JPEG")], _spec(3), {"size": Resize(5, 4, None)}),
        ([_encoded("PNG", _GREY)], _spec(1), {"size": Resize(5, 4, "nearest"), "indices": True}),
        ([_animation()], _spec(3), {"options": PictureOptions(orientation=True, first_frame=True)}),
    ],
    ids=["orientations", "as_stored", "grey", "alpha", "16_bits", "resized", "classes", "first_frame"],
)
def test_they_are_those_of_training(encoded, spec, options):
    found, expected = (_decoded(each.decode, encoded, spec, **options) for each in (pictures_in_graph, pictures))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    if len(encoded) > 10:
        assert {each.shape[1:3] for each in found} == {(7, 11), (11, 7)}  # some are turned


def test_their_graph_calls_no_python():
    decode = tf.function(lambda encoded: pictures_in_graph.decode(encoded, _spec(3), None), autograph=False)
    graph = decode.get_concrete_function(tf.TensorSpec((None,), tf.string))
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    assert not [node.op for node in nodes if "Py" in node.op]


@pytest.mark.parametrize(
    ("encoded", "spec", "reason"),
    [
        (_encoded("WEBP"), _spec(3), "neither PNG nor JPEG"),
        (b"", _spec(3), "neither PNG nor JPEG"),
        (b"\xff\xd8\xff", _spec(3), "JPEG"),
        (b"\x89PNG\r\n\x1a\n", _spec(3), "PNG"),
        (_encoded("PNG", _GREY, "uint16"), _spec(1), "must have 8 bits"),
        (_encoded("PNG", _GREY), _spec(1, tf.uint16), "must have 16 bits"),
        (_animation(), _spec(3), "several pictures"),
    ],
)
def test_others_are_refused(encoded, spec, reason):
    with pytest.raises(tf.errors.OpError, match=reason):
        _decoded(pictures_in_graph.decode, [encoded], spec)


def test_a_palette_is_refused_where_its_indices_count():
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.eye(5, dtype=np.uint8)).convert("P").save(buffer, "PNG")
    with pytest.raises(tf.errors.OpError, match="palette"):
        _decoded(pictures_in_graph.decode, [buffer.getvalue()], _spec(1), indices=True)
