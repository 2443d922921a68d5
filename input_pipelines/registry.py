"""Every dataset and every kind of source by name; needs no TensorFlow."""

from collections.abc import Mapping

# name → import path of `load(**options) -> {split: Examples}` (see `input_pipelines.examples`); a dataset that prepares
# files also takes `data_dir=None`.
DATASETS: Mapping[str, str] = {
    "digits": "input_pipelines.datasets.digits:load",
    "linnerud": "input_pipelines.datasets.tables:linnerud",
    "diabetes": "input_pipelines.datasets.tables:diabetes",
    "wine": "input_pipelines.datasets.tables:wine",
    "breast_cancer": "input_pipelines.datasets.tables:breast_cancer",
    "multi_mnist": "input_pipelines.datasets.multi_mnist:load",
    "river_flow": "input_pipelines.datasets.river_flow:load",
}
# name → what it is made of: a dataset of the TFDS catalogue.
MADE_OF: Mapping[str, str] = {"multi_mnist": "mnist"}

TFDS = "tfds"
# kind → import path of `open_splits(config, field) -> {split: Source}` (see `input_pipelines.sources.source`).
# That of TFDS, whose folders can name code, also takes `trust`.
SOURCES: Mapping[str, str] = {
    TFDS: "input_pipelines.sources.catalogue:open_splits",
    "csv": "input_pipelines.sources.csv:open_splits",
    "npz": "input_pipelines.sources.npz:open_splits",
    "parquet": "input_pipelines.sources.parquet:open_splits",
    "tfrecord": "input_pipelines.sources.tfrecord:open_splits",
    "image_folder": "input_pipelines.sources.image_folder:open_splits",
    "table_of_images": "input_pipelines.sources.table_of_images:open_splits",
}
# kind → import path of `open_rows(config, field, path, preparation, kept) -> Rows` (see `input_pipelines.rows.rows`);
# those that can read a file or folder which the configuration does not name.
ROWS: Mapping[str, str] = {
    "csv": "input_pipelines.rows.csv_rows:open_rows",
    "npz": "input_pipelines.rows.array_rows:open_rows",
    "parquet": "input_pipelines.rows.parquet_rows:open_rows",
    "tfrecord": "input_pipelines.rows.record_rows:open_rows",
    "image_folder": "input_pipelines.rows.picture_rows:open_rows",
    "table_of_images": "input_pipelines.rows.pictured_table_rows:open_rows",
}
# Kinds that are made of the files of a folder → a pattern of those that are read unless `splits` names others.
FILES: Mapping[str, str] = {"csv": "*.csv*", "npz": "*.npz", "parquet": "*.parquet", "tfrecord": "*.tfrecord*"}
# Kinds that need not say what their inputs are: by default, all columns that no target or weight uses.
FREE_INPUTS = ("csv", "parquet")
# Kinds that can leave out examples whose picture does not decode.
SKIPPING = ("tfrecord", "image_folder", "table_of_images")
