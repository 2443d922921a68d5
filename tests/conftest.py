"""Four logical CPU devices, data of the tests' own, signals that arrive, no pictures, no graph kept after its test."""

import gc
import os
import pathlib
import tempfile
from collections.abc import Iterator

_DATA = tempfile.TemporaryDirectory(prefix="tfds_")
os.environ["TFDS_DATA_DIR"] = _DATA.name
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402  (the variables above are read on import)
import tensorflow as tf  # noqa: E402
from tensorflow.python.data.ops import dataset_ops  # noqa: E402
from tensorflow.python.framework import ops  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from tests import eager, inherited_signals  # noqa: E402
from trainer.output import plots  # noqa: E402

DEVICES = 4
# These launch several workers, which take every core, and share something slow: they run in one of pytest's processes.
ONE_AFTER_ANOTHER = {
    "tests/launch/test_faults.py",
    "tests/launch/test_pods.py",
    "tests/launch/test_slurm.py",
    "tests/launch/test_slurm_comparison.py",
    "tests/launch/test_unlike_workers.py",
    "tests/properties/test_several_workers.py",
}
# The tests of such a file share what takes long to make: they run in one process, too, whichever is free.
TOGETHER = {
    "tests/configs/test_census_income.py",
    "tests/input_pipelines/test_catalogue.py",
    "tests/input_pipelines/test_river_table.py",
    "tests/input_pipelines/test_streaming.py",
    "tests/properties/test_masks.py",
    "tests/properties/test_reads.py",
    "tests/test_layers.py",
    "tests/test_package.py",
    "tests/test_readmes.py",
    "tests/trainer/components/test_class_weights.py",
    "tests/trainer/export/test_saved_model.py",
    "tests/trainer/keras_model/test_reads.py",
    "tests/trainer/predict/test_predict.py",
    "tests/trainer/run/test_evaluated_splits.py",
    "tests/trainer/run/test_following.py",
    "tests/trainer/run/test_initial_values.py",
    "tests/trainer/run/test_learning_rates.py",
    "tests/trainer/run/test_loop.py",
    "tests/trainer/run/test_order.py",
    "tests/trainer/step/test_varying_batches.py",
    "tests/trainer/test_runs_of_others.py",
}
COMPARED = "tests/trainer/compare/"  # so do those of this folder, which share a comparison


def pytest_configure() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    if not tf.config.list_physical_devices("GPU"):  # a GPU's own iterators cannot be given options
        _without_tuners()


def _without_tuners() -> None:
    """No pipeline of this process is tuned while it runs, as the trainer's own are not.

    An iterator that is let go of waits until its tuner looks up, which may be as long again as it has lived: Keras'
    pipelines have one, and each of those that TensorFlow puts between a pipeline and several devices.
    """
    as_it_is = dataset_ops.DatasetV2._apply_debug_options

    def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
        options = tf.data.Options()
        options.autotune.enabled = False
        return as_it_is(dataset).with_options(options)

    dataset_ops.DatasetV2._apply_debug_options = untuned


class _Scheduling(LoadScopeScheduling):
    """Tests go to whichever process is free, but those of some files all to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file in ONE_AFTER_ANOTHER:
            return "one after another"
        if file.startswith(COMPARED):
            return COMPARED
        return file if file in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduling:
    return _Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("CI") != "true":
        for item in items:
            if "ci_only" in item.keywords:
                item.add_marker(pytest.mark.skipif(True, reason="slow; CI runs it (CI=true)"))


def pytest_collection_finish() -> None:
    """Takes what is imported out of later garbage collections, each of which would look at all of TensorFlow.

    A trace makes hundreds of thousands of objects and keeps most of them: they are looked at less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_not_ignored() -> None:
    """Restores signals for processes that tests start, where nohup or a shell's background has this one ignore some.

    A started process inherits ignored signals, but not handlers; so the ignored ones get a handler that does nothing.
    """
    inherited_signals.restore()


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def pictures() -> None:
    """Given to a test that looks at the picture of a run of this process."""


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process end without their picture, which takes longer than all steps of a small problem."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(plots, "save_curves", lambda *_: None)


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Given to a test of few steps, which need no trace."""
    with eager.functions():
        yield


@pytest.fixture(autouse=True)
def forget_custom_gradients() -> Iterator[None]:
    """Takes back the gradients that a test's graphs registered.

    TensorFlow registers one for every `tf.custom_gradient` in a graph, as a sum over replicas is, and keeps it for the
    life of the process, with the graph and all functions it calls: some 30 MB for every experiment, gigabytes in all.
    """
    registry = ops.gradient_registry._registry
    before = frozenset(registry)
    yield
    for name in registry.keys() - before:
        del registry[name]
