"""A program that leaves the GPUs alone, and a configuration that touched them before."""

import pytest
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.distributed import strategy


def test_no_gpu_is_visible():
    strategy.hide_gpus()
    assert tf.config.get_visible_devices("GPU") == []


def test_too_late_is_one_line(monkeypatch):
    def refuse(devices, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    with pytest.raises(
        ConfigError, match="^configuration: must run none of TensorFlow's operations.*: Visible devices"
    ):
        strategy.hide_gpus()
