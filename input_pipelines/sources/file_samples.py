"""Samples of what a file holds, to tell files apart without reading all of them."""

import os
from collections.abc import Iterator

_SAMPLES, _SAMPLE_BYTES = 16, 2**16


def samples(path: str) -> Iterator[bytes]:
    """Yields samples of a file from all over it; of one of up to 1 MiB all that it holds."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        for sample in range(min(_SAMPLES, -(-size // _SAMPLE_BYTES))):
            file.seek(sample * max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (_SAMPLES - 1)))
            yield file.read(_SAMPLE_BYTES)
