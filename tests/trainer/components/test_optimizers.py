"""Optimizers and schedules by name, and who updates what."""

import numpy as np
import pytest

from tests import problems
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.components import optimizers
from trainer.run import experiment

DECAY = {"name": "exponential_decay", "initial_learning_rate": 1, "decay_steps": 10, "decay_rate": 0.5}


def _build(spec):
    return optimizers.build(spec, "shared_optimizer", Timeline(batch_size=10, examples=100, steps=500))


@pytest.mark.parametrize(
    "name", ["adam", "Adam", "sgd", "rmsprop", "adamw", "lion", "Adafactor", "ftrl", "nadam", "lamb"]
)
def test_every_keras_optimizer_by_name(name):
    assert type(_build({"name": name, "learning_rate": 0.5})).__name__.lower() == name.lower()


def test_schedule_in_steps_epochs_and_examples():
    rate = {"name": "CosineDecay", "initial_learning_rate": 0.0, "warmup_target": 1.0, "warmup_steps": "2 epochs"}
    schedule = _build({"name": "adam", "learning_rate": rate})._learning_rate
    assert [float(schedule(step)) for step in (0, 10, 20, 500)] == pytest.approx([0.0, 0.5, 1.0, 0.0], abs=1e-6)
    schedule = _build({"name": "adam", "learning_rate": rate | {"decay_steps": "1000 examples"}})._learning_rate
    assert float(schedule(120)) == pytest.approx(0.0, abs=1e-6)
    pieces = {"name": "piecewise_constant_decay", "boundaries": ["1 epoch", 30], "values": [1.0, 0.5, 0.1]}
    schedule = _build({"name": "sgd", "learning_rate": pieces})._learning_rate
    assert [float(schedule(step)) for step in (10, 11, 31)] == pytest.approx([1.0, 0.5, 0.1])


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"name": "adm"}, "shared_optimizer.name", "did you mean"),
        ({"name": "adam", "lr": 1}, "shared_optimizer.lr", "did you mean 'learning_rate'"),
        ({"name": "adamw", "wd": 1}, "shared_optimizer.wd", "did you mean 'weight_decay'"),
        ({"name": "adam", "lerning_rate": 1}, "shared_optimizer.lerning_rate", "did you mean 'learning_rate'"),
        (
            {"name": "adam", "gradient_accumulation_steps": 4},
            "shared_optimizer.gradient_accumulation_steps",
            "left out",
        ),
        ({"name": "adam", "use_ema": True}, "shared_optimizer.use_ema", "left out"),
        ({"name": "sgd", "momentum": 3.0}, "shared_optimizer", "SGD refuses it"),
        ({"name": "adam", "beta_1": "x"}, "shared_optimizer.beta_1", "below 1"),
        ({"name": "adam", "epsilon": None}, "shared_optimizer.epsilon", "finite number"),
        ({"name": "adam", "beta_1": 1}, "shared_optimizer.beta_1", "below 1"),
        ({"name": "sgd", "nesterov": "no"}, "shared_optimizer.nesterov", "True or False"),
        (
            {"name": "adam", "gradient_accumulation_steps": {}},
            "shared_optimizer.gradient_accumulation_steps",
            "left out",
        ),
        ({"name": "adam", "weight_decay": "x"}, "shared_optimizer.weight_decay", "finite number"),
        ({"name": "adam", "clipnorm": -1}, "shared_optimizer.clipnorm", "at least 0"),
        (
            {"name": "sgd", "learning_rate": {**DECAY, "decay_rate": -1}},
            "shared_optimizer.learning_rate.decay_rate",
            "at least 0",
        ),
        (
            {
                "name": "sgd",
                "learning_rate": {"name": "piecewise_constant_decay", "boundaries": [3], "values": [1, "x"]},
            },
            "shared_optimizer.learning_rate.values.1",
            "finite number",
        ),
        ({"name": "math:hypot"}, "shared_optimizer", "hypot"),
        ({"name": "math:pi"}, "shared_optimizer.name", "must be a class or a function"),
        ({"name": "collections:Counter"}, "shared_optimizer", "gives a Counter, not a Optimizer"),
        ({"name": "loss_scale_optimizer", "inner_optimizer": "adam"}, "shared_optimizer.name", "wraps"),
        (
            {"name": "adam", "learning_rate": {"name": "cosin"}},
            "shared_optimizer.learning_rate.name",
            "unknown schedule",
        ),
        (
            {"name": "adam", "learning_rate": {"name": "cosine_decay"}},
            "shared_optimizer.learning_rate.initial_learning_rate",
            "missing",
        ),
        (
            {
                "name": "adam",
                "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 1.0, "decay_steps": "soon"},
            },
            "shared_optimizer.learning_rate.decay_steps",
            "epochs",
        ),
    ],
)
def test_what_cannot_be_used_is_named(spec, field, words):
    with pytest.raises(ConfigError) as caught:
        _build(spec)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_who_updates_what():
    def owners(**changes):
        groups = experiment.build(problems.config(**changes), problems.strategy(1)).optimizer_groups
        return {group.name: {variable.path.partition("/")[0] for variable in group.variables} for group in groups}

    trunk = {"trunk_0_dense"}
    vector = {"head_vector_0_dense", "head_vector_1_dense"}
    # Both losses on the vector's head reach it, so it is shared, and they have nothing of their own.
    assert owners() == {"shared": trunk | vector, "label": {"head_label_0_dense"}, "number": {"head_number_0_dense"}}
    independent = {
        "label": trunk | {"head_label_0_dense"},
        "number": trunk | {"head_number_0_dense"},
        "vector": trunk | vector,
        "vector_l1": trunk | vector,
    }
    assert owners(combine__name="independent") == independent
    # PCGrad mixes other losses' gradients into a loss's own, also on variables that the loss does not reach.
    pcgrad = owners(combine__name="pcgrad", combine__apply="per_loss")
    assert pcgrad["label"] == trunk | vector | {"head_label_0_dense"}


def test_whole_numbers_do_for_fractions():
    assert float(_build({"name": "adam", "learning_rate": 1, "beta_1": 0, "weight_decay": 1}).learning_rate) == 1.0
    assert float(_build({"name": "sgd", "learning_rate": DECAY})._learning_rate(10)) == 0.5


@pytest.mark.parametrize("decay", [{"name": "adamw"}, {"name": "sgd", "weight_decay": 0.1}])
def test_weight_decay_with_several_owners_is_refused(decay):
    changes = {"losses__number__optimizer": decay}
    with pytest.raises(ConfigError, match="losses.number.optimizer.weight_decay"):
        experiment.build(problems.config(**changes, combine__name="independent"), problems.strategy(1))
    experiment.build(problems.config(**changes), problems.strategy(1))  # applied jointly, it has an owner


def test_weight_decay_acts_once_on_every_replica(eagerly):
    changes = {"shared_optimizer": {"name": "sgd", "learning_rate": 0.0, "weight_decay": 0.1}, "batch_size": 12}
    one, three = (problems.run(replicas, 3, **changes) for replicas in (1, 3))
    for name, value in one.variables.items():
        np.testing.assert_allclose(three.variables[name], value, atol=1e-9)


@pytest.mark.parametrize("field", ["shared_optimizer", "optimizer"])
def test_mistakes_in_an_optimizer_without_variables_are_named(field):
    with pytest.raises(ConfigError, match=f"^{field}.name='adm': unknown optimizer; did you mean 'adam'"):
        experiment.build(problems.config(combine__apply="per_loss", **{field: "adm"}), problems.strategy(1))


def test_what_is_written_once_is_wrong_once():
    """Errors name `optimizer` and not the keys of all that have it."""
    own = dict.fromkeys(["shared_optimizer", *(f"losses__{name}__optimizer" for name in problems.LOSSES)])
    decay = problems.config(**own, optimizer={"weight_decay": 0.1}, combine__name="independent")
    with pytest.raises(ConfigError, match="^optimizer.weight_decay=0.1: "):
        experiment.build(decay, problems.strategy(1))
