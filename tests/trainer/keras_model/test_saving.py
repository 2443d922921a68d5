"""A model in a file, a backup or a file of weights holds all that training needs to continue, bit for bit."""

import keras
import numpy as np
import pytest

from configs.own_methods import steady
from tests import forked
from trainer import MultiLossModel
from trainer.keras_model.model import WrappedModel

RANDOM = np.random.RandomState(0)
INPUTS = RANDOM.normal(size=(24, 4))
TARGETS = {"a": RANDOM.normal(size=(24, 2)), "b": RANDOM.normal(size=(24, 1)) + 1}
LOSSES = {"a": "mse", "b": "mse"}
# A step without a trace is enough for most.
EAGERLY = {"run_eagerly": True}
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
# A combination that remembers, one of the user's own, one that draws from the step, one optimizer for each loss, and
# for some variables.
COMPILED = {
    "gradnorm": {"combine": "gradnorm", "optimizer": "adam"},
    "famo": {"combine": "famo", "optimizer": "adam", "clip_norm": 1.0, **EAGERLY},
    "own": {"combine": {"name": steady, "memory": 0.5}, "optimizer": "adam", **EAGERLY},
    "moco": {"combine": {"name": "moco"}, "optimizer": "adam", **EAGERLY},
    "random": {"combine": "random", "optimizer": "adam", "seed": 3, **EAGERLY},
    "per_loss": {"combine": "pcgrad", "apply": "per_loss", "optimizer": "adam", **EAGERLY},
    "optimizers": {"optimizers": {"a": "adam", "shared": "rmsprop"}, "optimizer": "adam", **EAGERLY},
}


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def graph():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="tanh")(inputs)
    return inputs, {"a": keras.layers.Dense(2, name="a")(hidden), "b": keras.layers.Dense(1, name="b")(hidden)}


@keras.saving.register_keras_serializable(package="tests")
class Heads(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="tanh")
        self.a, self.b = keras.layers.Dense(2), keras.layers.Dense(1)

    def call(self, inputs):
        hidden = self.hidden(inputs)
        return {"a": self.a(hidden), "b": self.b(hidden)}

    def get_config(self):
        return {"units": self.units, "name": self.name}


@keras.saving.register_keras_serializable(package="tests")
class HeadsOfSeveralLosses(MultiLossModel):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.heads = Heads(units)

    def call(self, inputs):
        return self.heads(inputs)

    def get_config(self):
        return {"units": self.units, "name": self.name}


def wrapped():
    keras.utils.set_random_seed(1)
    model = Heads(5)
    model(INPUTS[:1])
    return MultiLossModel.of(model)


def subclassed():
    keras.utils.set_random_seed(1)
    return HeadsOfSeveralLosses(5)


def functional():
    return MultiLossModel(*graph())


def fitted(name, make=functional, epochs=1):
    model = make()
    model.compile(loss=LOSSES, metrics={"b": ["mae"]}, **COMPILED[name])
    model.fit(INPUTS, TARGETS, epochs=epochs, **FIT)
    return model


def assert_continue_alike(model, other):
    histories = [each.fit(INPUTS, TARGETS, epochs=2, **FIT).history for each in (model, other)]
    assert histories[0] == histories[1]
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def some(names, *always):
    return [pytest.param(name, marks=[] if name in always else pytest.mark.ci_only) for name in names]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", some(COMPILED, "own", "optimizers"))
def test_a_file_of_a_functional_model(name, tmp_path):
    model = fitted(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"steady": steady})
    assert type(loaded) is type(model)
    assert_continue_alike(model, loaded)


@pytest.mark.parametrize("make", [wrapped, pytest.param(subclassed, marks=pytest.mark.ci_only)])
def test_a_file_of_a_model_without_a_graph(make, tmp_path):
    model = fitted("per_loss", make)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert_continue_alike(model, loaded)


def test_plain_weights_and_back(eagerly, tmp_path):
    path = tmp_path / "w.weights.h5"
    plain, model = keras.Model(*graph()), fitted("gradnorm")
    plain.compile("adam", loss=LOSSES)
    plain.fit(INPUTS, TARGETS, **FIT)
    plain.save_weights(path)
    model.load_weights(path)
    for one, two in zip(
        plain.weights + plain.optimizer.variables, model.weights + model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one, two)
    model.fit(INPUTS, TARGETS, **FIT)
    model.save_weights(path)
    plain.load_weights(path)
    for one, two in zip(
        plain.weights + plain.optimizer.variables, model.weights + model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert len(plain.weights) == len(model.weights)  # its state is not among them


class Stops(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", some(["famo", "per_loss"], "famo"))
def test_a_backup(name, tmp_path):
    """Keras loads it before the first step, into optimizers and a state that must exist by then."""
    whole = fitted(name, epochs=3)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    model = functional()
    model.compile(loss=LOSSES, metrics={"b": ["mae"]}, **COMPILED[name])
    with pytest.raises(KeyboardInterrupt):
        model.fit(INPUTS, TARGETS, epochs=3, callbacks=[backup, Stops()], **FIT)
    again = functional()
    again.compile(loss=LOSSES, metrics={"b": ["mae"]}, **COMPILED[name])
    again.fit(INPUTS, TARGETS, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)], **FIT)
    for one, two in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)


class Epochs(keras.callbacks.Callback):
    """Keeps what a combination sees of the epochs, and after how many steps `fit` looks."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((int(self.model._training.epoch), int(self.model._training.state["step"])))


def test_epochs_are_those_that_fit_counts():
    model, epochs = functional(), Epochs()
    model.compile(loss=LOSSES, combine="dwa")
    model.run_eagerly, model.steps_per_execution = True, 2  # as Keras lets them be set
    model.fit(INPUTS, TARGETS, initial_epoch=2, epochs=4, callbacks=epochs, **FIT)
    assert epochs.seen == [(2, 2), (2, 3), (3, 5), (3, 6)]


@pytest.mark.parametrize("name", some(["random", "per_loss", "optimizers"], "random"))
def test_several_calls_of_fit_are_one(name):
    """The step that a combination draws from continues, also where the data change their form in between."""
    whole, model = fitted(name, epochs=3), fitted(name)
    model.fit(INPUTS, TARGETS, sample_weight={name: np.ones(24) for name in TARGETS}, **FIT)
    model.fit(INPUTS, TARGETS, **FIT)
    for one, two in zip(whole.weights, model.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


def test_another_process_loads_a_file(tmp_path):
    """After `import trainer`, which loads no TensorFlow; nothing is loaded that only other parts need."""
    model = fitted("optimizers")
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, trainer\nassert 'trainer.keras_model.model' not in sys.modules\nimport keras\n"
        "unwanted = 'matplotlib', 'rich', 'pyarrow', 'sklearn', 'tensorflow_datasets'\n"
        "for name in [name for name in sys.modules if name.split('.')[0] in unwanted]:\n    del sys.modules[name]\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "assert not [name for name in unwanted if name in sys.modules]\n"
        "assert isinstance(model, trainer.MultiLossModel)\nassert set(model._arguments.optimizers) == {'a', 'shared'}"
    )
    (tmp_path / "loading.py").write_text(code)
    result = forked.run("loading", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_compile_starts_anew():
    model = fitted("random")
    assert isinstance(wrapped(), WrappedModel)
    start = [np.array(each) for each in model.weights]
    ends = []
    for _ in range(2):
        for variable, value in zip(model.weights, start, strict=True):
            variable.assign(value)
        model.compile(loss=LOSSES, **COMPILED["random"])
        model.fit(INPUTS, TARGETS, **FIT)
        ends.append([np.array(each) for each in model.weights])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
