"""GPUs that the driver lists and TensorFlow cannot use, what NCCL cannot sum, and how operations are to be computed."""

import os
import types

import pytest
import tensorflow as tf
from tensorflow.python.framework import config as framework

from tests import forked
from trainer.common.errors import ConfigError
from trainer.distributed import strategy, usable_gpus
from trainer.run import build_step, network

_AT = "0000 00:00:1796061890.709561   29101"
_UNLOADED = "Could not load dynamic library"
_NO_FILE = "cannot open shared object file: No such file or directory"


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> None:
    """A driver's program that lists two GPUs."""
    lines = [f"echo 'GPU {index}: NVIDIA A100-SXM4-40GB (UUID: GPU-5f2c1d3e-{index})'" for index in range(2)]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _check(**changes) -> None:
    usable_gpus.check("mirrored", **{"virtual_devices": None, "allow_cpu": False, **changes})


def test_no_run_on_the_cpu_instead(gpus, tmp_path):
    """One line with the reason of TensorFlow's loader: this machine has no driver."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there are GPUs")
    (tmp_path / "empty").mkdir()
    result = forked.run("trainer.main", "--workdir=run", cwd=tmp_path / "empty")
    assert (result.returncode, result.stdout) == (2, "")
    expected = (
        "error: --strategy='mirrored': nvidia-smi lists 2 GPUs, but TensorFlow can use none: cannot load libcuda.so.1"
    )
    assert result.stderr.startswith(expected)
    assert result.stderr.endswith("; --allow_cpu runs on the CPU\n")
    assert result.stderr.count("\n") == 1
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("changes", [{"allow_cpu": True}, {"virtual_devices": 2}])
def test_a_cpu_that_is_asked_for(gpus, monkeypatch, changes):
    monkeypatch.setattr(usable_gpus, "_reason", lambda: "it says so")
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(ConfigError, match="lists 2 GPUs, but TensorFlow can use none: it says so"):
            _check()
    _check(**changes)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        _check()


def test_a_machine_without_gpus(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _check()


@pytest.mark.parametrize(
    ("lines", "visible", "expected"),
    [
        (
            [
                f"I{_AT} dso_loader.cc:144] {_UNLOADED} 'libcuda.so.1'; dlerror: libcuda.so.1: {_NO_FILE}",
                f"E{_AT} cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: "
                "UNKNOWN ERROR (303)",
            ],
            None,
            f"cannot load libcuda.so.1, which the driver brings ({_NO_FILE})",
        ),
        (
            [
                *(
                    f"I{_AT} dso_loader.cc:144] {_UNLOADED} '{name}'; dlerror: {name}: {_NO_FILE}; LD_LIBRARY_PATH: /a"
                    for name in ("libcudnn.so.9", "libcufft.so.11")
                ),
                f"W{_AT} gpu_device.cc:2342] Cannot dlopen some GPU libraries. Please make sure",
            ],
            None,
            f"cannot load libcudnn.so.9, libcufft.so.11, which launch/requirements-gpu.lock installs ({_NO_FILE})",
        ),
        (
            [f"E{_AT} cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_NO_DEVICE: no device is detected"],
            "7",
            "cuInit fails: CUDA_ERROR_NO_DEVICE: no device is detected (CUDA_VISIBLE_DEVICES=7)",
        ),
        ([f"W{_AT} gpu_device.cc:9] Something new", f"I{_AT} x.cc:1] words"], None, "Something new"),
        ([], None, "it does not say why (TF_CPP_MIN_LOG_LEVEL=0 shows its messages)"),
    ],
)
def test_the_reason_is_the_loaders(lines, visible, expected):
    assert usable_gpus.reason_in("\n".join([*lines, ""]), visible) == expected


def _replicas(count: int, kind: str):
    """A stand-in for a strategy that tells of devices which are not here."""
    devices = tuple(f"/replica:0/task:0/device:{kind}:{index}" for index in range(count))
    return types.SimpleNamespace(num_replicas_in_sync=count, extended=types.SimpleNamespace(worker_devices=devices))


def test_what_nccl_cannot_sum():
    """Refused on several GPUs, with what to take instead: by `reduce_dtype`, and by variables of one's own model."""
    variables = {name: types.SimpleNamespace(dtype=name) for name in ("float32", "bfloat16")}
    wide, half = (types.SimpleNamespace(by_name={name: variables[name]}) for name in variables)
    for dtype, reach, field in (("bfloat16", wide, "reduce_dtype"), (None, half, "model")):
        pattern = f"^{field}='bfloat16': GPUs cannot sum bfloat16: .* takes float16, float32, float64, int32, int64; "
        with pytest.raises(ConfigError, match=pattern):
            build_step.reduction(dtype, 0, reach, _replicas(2, "GPU"))
        for replicas in (_replicas(1, "GPU"), _replicas(2, "CPU")):
            assert build_step.reduction(dtype, 0, reach, replicas).dtype == dtype
    assert build_step.reduction(None, 7, wide, _replicas(2, "GPU")).bytes_per_pack == 7


def test_operations_are_computed_as_the_configuration_says():
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    try:
        for tensor_float_32 in (False, True):
            network.set_arithmetic("float32", tensor_float_32, False, strategy.build("one_device"))
            assert (enabled(), framework.is_op_determinism_enabled()) == (tensor_float_32, False)
        network.set_arithmetic("float32", True, True, strategy.build("one_device"))
        assert framework.is_op_determinism_enabled()
    finally:
        framework.disable_op_determinism()
