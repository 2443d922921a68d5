"""Every dataset by name; needs no TensorFlow."""

from collections.abc import Mapping

# name → import path of `load(**options) -> {split: Examples}` (see `input_pipelines.examples`); a dataset that prepares
# files also takes `data_dir=None`.
DATASETS: Mapping[str, str] = {
    "digits": "input_pipelines.digits:load",
    "linnerud": "input_pipelines.tables:linnerud",
    "diabetes": "input_pipelines.tables:diabetes",
    "wine": "input_pipelines.tables:wine",
    "breast_cancer": "input_pipelines.tables:breast_cancer",
}
