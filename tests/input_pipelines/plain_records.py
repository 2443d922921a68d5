"""Files of records with one input and an index."""

from tests.input_pipelines import reading, user_files

PLAIN = {"inputs": {"x": {}}, "targets": {"index": {}}}


def simple(tmp_path, features: dict, records: list, **changes):
    user_files.write_records(tmp_path / "train.tfrecord", records)
    user_files.write_records(tmp_path / "validation.tfrecord", records)
    splits = {split: f"{split}.tfrecord" for split in user_files.COUNTS}
    tree = {"name": "tfrecord", "path": str(tmp_path), "options": {"features": features}, "splits": splits}
    return reading.build({**tree, **PLAIN, **changes})
