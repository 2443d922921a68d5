"""Every dataset by name; needs no TensorFlow."""

from collections.abc import Mapping

# name → import path of `load(data_dir=None, **options) -> {split: Examples}` (see `input_pipelines.examples`)
DATASETS: Mapping[str, str] = {
    "digits": "input_pipelines.digits:load",
}
