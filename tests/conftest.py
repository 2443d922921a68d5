"""Four logical CPU devices, and a data folder of the tests' own."""

import os
import pathlib
import tempfile

_DATA = tempfile.TemporaryDirectory(prefix="tfds_")
os.environ["TFDS_DATA_DIR"] = _DATA.name
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402  (the variables above are read on import)
import tensorflow as tf  # noqa: E402

DEVICES = 4


def pytest_configure() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("CI") != "true":
        for item in items:
            if "ci_only" in item.keywords:
                item.add_marker(pytest.mark.skipif(True, reason="slow; CI runs it (CI=true)"))


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parent.parent
