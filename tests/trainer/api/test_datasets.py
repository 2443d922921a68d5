"""Runs on a dataset of `tf.data`, read in its order."""

import numpy as np
import pytest
import tensorflow as tf

import trainer
from tests import problems
from tests.trainer.api.runs import assert_equal

EXAMPLES = problems.load(40)
TRAIN = (EXAMPLES["train"].inputs, dict(EXAMPLES["train"].targets))


def _tree(dataset: tf.data.Dataset, **changes) -> dict:
    splits = {"train": dataset, "validation": EXAMPLES["validation"]}
    return {
        **problems.tree(**{"steps": 8, "eval_every": 4, "report_every": 2, **problems.SIMPLE, **changes}),
        "dataset": splits,
    }


def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path, capsys):
    """Bit for bit; and one of an endless dataset, which has no epochs, takes the same steps."""
    dataset = tf.data.Dataset.from_tensor_slices(TRAIN).batch(7)
    whole = trainer.train(_tree(dataset), tmp_path / "whole", progress=False)
    trainer.train(_tree(dataset), tmp_path / "run", steps=4, progress=False)
    capsys.readouterr()
    run = trainer.train(_tree(dataset), tmp_path / "run")
    printed = capsys.readouterr().out
    assert "to get there, 4 training examples are read and thrown away" in printed  # 4 steps of 11, an epoch of 40
    assert "40 train, 29 validation examples, in the order of the dataset" in printed
    assert_equal(whole.path, run.path)
    with pytest.raises(trainer.ConfigError, match="the train split has changed since the run began"):
        trainer.train(_tree(dataset.take(3)), run.path, steps=9, progress=False)
    for key, value in {"steps": "2 epochs", "eval_every": "1 epoch", "report_every": "0.5 epochs"}.items():
        with pytest.raises(trainer.ConfigError, match=f"{key}='{value}': the training data never end"):
            trainer.train(_tree(dataset.repeat()), tmp_path / "never", progress=False, **{key: value})
    assert not (tmp_path / "never").exists()
    endless = trainer.train(_tree(dataset.repeat()), tmp_path / "endless")
    assert "endless train, 29 validation examples" in capsys.readouterr().out
    assert_equal(whole.path, endless.path)


@pytest.mark.ci_only
def test_replicas_and_mistakes(tmp_path):
    """Two replicas take the steps of one; a class that the head lacks is named with its example."""
    dataset = tf.data.Dataset.from_tensor_slices(TRAIN)
    runs = [
        trainer.train(_tree(dataset), tmp_path / str(count), virtual_devices=count, progress=False) for count in (1, 2)
    ]
    one, two = ([row["loss/vector"] for row in run.history] for run in runs)
    assert two == pytest.approx(one, rel=1e-9)
    wrong = TRAIN[1] | {"label": np.where(np.arange(40) == 33, 9, TRAIN[1]["label"])}
    with pytest.raises(trainer.RunError, match="example 33 of dataset.train: target 'label' holds 9, which is none"):
        trainer.train(_tree(tf.data.Dataset.from_tensor_slices((TRAIN[0], wrong))), tmp_path / "wrong", progress=False)
