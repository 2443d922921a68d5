"""TensorBoard's files: sections in a useful order, the settings of a run, pictures."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import plugin_data_pb2

from tests import problems
from trainer.common import schema
from trainer.output import tensorboard
from trainer.output.tensorboard import TensorBoard


def test_sections_are_sorted_as_they_are_read():
    names = ["loss/a", "a/mae", "monitor/total_loss", "grad_norm/a", "cosine/a/b", "coefficient/a"]
    names += ["learning_rate/shared", "speed/memory", "segment/ward=3/loss/a", "labels/a", "fallbacks"]
    tags = [tensorboard.tag(name) for name in names]
    assert tags == sorted(tags)
    assert len(set(tags)) == len(names)
    assert tags[:2] == ["1 losses/a", "2 metrics/a/mae"]


@pytest.mark.parametrize("losses", [4])
def test_the_settings_and_a_picture(tmp_path, losses):
    config = schema.as_dict(problems.config(combine__name="cagrad", combine__cagrad={"c": 0.3}))
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    events = TensorBoard(tmp_path)
    events.describe(config)
    events.show("cosines", picture, 7)
    events.close()
    found = {}
    for file in tmp_path.glob("*/events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            found |= {value.tag: (event.step, file.parent.name, value) for value in event.summary.value}
    step, split, value = found["cosines"]
    assert (step, split) == (7, "train")
    assert np.array_equal(tf.io.decode_png(tf.make_ndarray(value.tensor)[2]), picture)
    step, split, value = found["configuration"]
    assert (step, split) == (0, "train")
    assert b'"name": "cagrad"' in tf.make_ndarray(value.tensor).item()
    (content,) = [value.metadata.plugin_data.content for _, split, value in found.values() if split == "validation"]
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["combine.cagrad.c"].number_value == 0.3
    assert settings["batch_size"].number_value == 11
    assert not any(name.startswith(("combine.famo", "dataset")) for name in settings)
    assert sum(name.endswith(".weight") for name in settings) == losses
