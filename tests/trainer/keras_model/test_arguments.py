"""`compile` takes what `keras.Model.compile` does, and refuses in one line what cannot be."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from trainer import ConfigError, MultiLossModel
from trainer.components import optimizers
from trainer.config import plan
from trainer.config.plan import Way
from trainer.config.settings import LossConfig


def model(cls=MultiLossModel):
    inputs = keras.Input((4,))
    return cls(inputs, {"a": keras.layers.Dense(2, name="p")(inputs), "b": keras.layers.Dense(1, name="q")(inputs)})


def compiled(**given):
    made = model()
    made.compile(**given)
    return made._arguments


def by_losses(losses):
    return losses[::-1]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"combine": "pcgrd"}, "combine='pcgrd': unknown combination; did you mean 'pcgrad'"),
        ({"combine": {"name": "cagrad", "d": 1}}, "combine.d=1: unknown option; allowed: c, log_losses, smoothing"),
        ({"combine": {"name": "cagrad", "c": -1}}, "combine.c=-1: must be a number of at least 0 and below 1"),
        ({"combine": {"name": "mgda", "smoothing": 2}}, "combine.smoothing=2: must be a number of at least 0"),
        ({"combine": {"c": 1}}, "combine={'c': 1}: must be a name, a dictionary of its 'name' and options, or"),
        ({"combine": 3}, "combine=3: must be a name"),
        ({"combine": lambda losses, other: 0}, f"combine='{__name__}:<lambda>': its parameter 'other' is neither an"),
        ({"combine": "mine:balance"}, "combine='mine:balance': must be the function itself, not its import path"),
        ({"combine": {"name": by_losses, "power": 2}}, "combine.power=2: unknown option; allowed: none"),
        ({"combine": "independent", "apply": "joint"}, "apply='joint': 'independent' is always applied per loss"),
        ({"apply": "each"}, "apply='each': unknown way to apply; allowed: joint, per_loss"),
        ({"clip_norm": 0}, "clip_norm=0: must be a finite number above 0"),
        ({"steps_per_execution": 0}, "steps_per_execution=0: must be a whole number of at least 1"),
        ({"micro_batches": 0}, "micro_batches=0: must be a whole number of at least 1"),
        ({"diagnostics": 1}, "diagnostics=1: must be True or False"),
        ({"seed": -1}, "seed=-1: must be a whole number"),
        ({"jit_compile": "yes"}, "jit_compile='yes': must be True, False or 'auto'"),
        ({"loss": {"a": "mse", "c": "mse"}}, "loss.c='mse': unknown output; allowed: a, b, p, q"),
        ({"metrics": {"c": ["mae"]}}, "metrics.c=['mae']: unknown output"),
        ({"optimizer": "adm"}, "optimizer='adm': must be a Keras optimizer, or the name of one"),
        ({"optimizers": {"a": "adm"}}, "optimizers.a='adm': must be a Keras optimizer"),
        ({"optimizers": "adam"}, "optimizers='adam': must be a dictionary from names of losses, or 'shared', to"),
        ({"optimizers": {"a": None}}, "optimizers.a=None: must be a Keras optimizer"),
    ],
)
def test_what_cannot_be(given, line):
    with pytest.raises(ConfigError) as caught:
        compiled(**given)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ({"gradient_accumulation_steps": 2}, "optimizer.gradient_accumulation_steps=2: must be None: it accumulates"),
        ({"loss_scale_factor": 8.0}, "optimizer.loss_scale_factor=8.0: must be None: it would divide"),
    ],
)
def test_optimizers_that_cannot_be(argument, line):
    with pytest.raises(ConfigError) as caught:
        compiled(optimizer=keras.optimizers.Adam(**argument))
    assert str(caught.value).startswith(line)


def test_optimizers_must_be_apart():
    one = keras.optimizers.Adam()
    with pytest.raises(ConfigError, match=r"^optimizers.a='adam\w*': is given twice"):
        compiled(optimizer=one, optimizers={"a": one})
    with pytest.raises(ConfigError, match=r"^optimizers.a.use_ema=True: must be False"):
        compiled(optimizers={"a": keras.optimizers.Adam(use_ema=True)})
    with pytest.raises(ConfigError, match=r"^optimizers.c='sgd\w*': unknown loss; .*allowed: a, b, shared"):
        compiled(optimizers={"c": "sgd"}).check_names({"a": None, "b": None})


def test_optimizers_must_be_of_the_scope_of_the_model():
    optimizer = keras.optimizers.SGD()
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        made = model()
    with pytest.raises(ConfigError, match="must be made in the scope of the strategy"):
        made.compile(optimizer)
    with pytest.raises(ConfigError, match=r"^model='\w+': must be made as a whole in the scope of one strategy"):
        MultiLossModel.of(made).compile()
    made.compile("sgd")  # one that compile makes is


@pytest.mark.parametrize("name", ["train_step", "compute_loss", "make_train_function"])
def test_a_step_of_the_users_own(name):
    own = type("Own", (MultiLossModel,), {name: lambda self, *arguments, **named: None})
    with pytest.raises(ConfigError, match=rf"^{name}='Own': must be left as it is"):
        model(own).compile()


def test_several_workers(monkeypatch):
    made = model()
    kind = tf.distribute.MultiWorkerMirroredStrategy
    monkeypatch.setattr(made, "_distribute_strategy", kind.__new__(kind))  # made in full it would lay out devices
    with pytest.raises(ConfigError, match=r"^strategy='\w+': must be MirroredStrategy, .* use the command line"):
        made.compile()


def test_a_loss_scale_is_taken_off():
    inner = keras.optimizers.SGD()
    found = compiled(optimizer=keras.mixed_precision.LossScaleOptimizer(inner))
    assert found.optimizer is inner
    assert not found.scales_losses
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert [compiled(auto_scale_loss=scales).scales_losses for scales in (True, False)] == [True, False]
        assert isinstance(compiled(optimizer="sgd").optimizer, keras.optimizers.SGD)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("given", "missing", "way", "between"),
    [
        ({}, True, Way.FUSED, None),
        ({"diagnostics": True}, True, Way.PER_LOSS, None),
        ({"combine": "uncertainty"}, True, Way.FUSED, None),
        ({"combine": by_losses}, True, Way.FUSED, None),
        ({"jit_compile": True}, False, Way.FUSED, None),
        ({"jit_compile": True}, True, Way.PER_LOSS, None),
        ({"combine": "dwa", "micro_batches": 2}, False, Way.PER_LOSS, None),
        ({"combine": "pcgrad"}, False, Way.PER_LOSS, None),
        ({"combine": {"name": "pcgrad", "update_every": 3}}, False, Way.PER_LOSS, Way.FUSED),
        ({"combine": "independent"}, False, Way.PER_LOSS, None),
        ({"apply": "per_loss"}, False, Way.PER_LOSS, None),
    ],
)
def test_the_way_that_is_taken(given, missing, way, between):
    losses = {name: LossConfig(**_LOSS) for name in "ab"}
    settings = compiled(**given).settings(losses, 8)
    found = plan.make(settings, labels_can_be_missing=missing)
    assert (found.way, found.between) == (way, between)
    if found.way is Way.FUSED:
        plan.check_labels(dataclasses.replace(settings, reduction="fused"), labels_can_be_missing=missing)


_LOSS = {field.name: None for field in dataclasses.fields(LossConfig)} | {"weight": 1.0}


def test_what_cannot_go_together_in_any_way():
    settings = compiled(combine="famo", micro_batches=2).settings({"a": LossConfig(**_LOSS)}, 8)
    with pytest.raises(ConfigError, match=r"^micro_batches=2: must be 1: 'famo' needs the whole batch once more"):
        plan.make(settings)


def test_weights_scale_the_losses_of_every_method():
    combinations = {name: compiled(combine=name).combine.of_losses(3) for name in ("weighted", "pcgrad", "geometric")}
    assert {name: each.use_weights for name, each in combinations.items()} == {
        "weighted": False,  # which is the weights
        "pcgrad": True,
        "geometric": True,
    }


def test_a_copy_shares_the_learning_rate():
    optimizer = keras.optimizers.Adam(0.5)
    copy = optimizers.copy_of(optimizer)
    optimizer.learning_rate = 0.25
    assert float(copy.learning_rate) == 0.25
    assert copy.iterations is not optimizer.iterations
