"""The memory of the process, and of GPUs of which this machine need have none."""

import numpy as np
import tensorflow as tf

from trainer.output import memory


def test_memory_that_is_used_is_resident():
    before = memory.used()["speed/memory"]
    held = np.ones(2 * 10**8, np.uint8)
    grown = memory.used()["speed/memory"] - before
    assert 1.5e8 < grown < 2.5e8
    assert held.all()


def test_each_gpu_has_its_peak_where_it_is_known(monkeypatch):
    def information(device: str) -> dict[str, int]:
        if device == "GPU:1":
            raise ValueError("Multiple devices matching")
        return {"current": 3, "peak": 7}

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind] * 3)
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", information)
    used = memory.used()
    assert {name: used[name] for name in used if "gpu" in name} == {"speed/gpu_memory/0": 7, "speed/gpu_memory/2": 7}
