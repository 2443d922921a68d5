"""Random numbers: an evaluation repeats them, and what no resumed run can repeat is named."""

import io
import pathlib
import shutil

import pytest
from rich.console import Console

from tests import problems
from tests.properties import built_once, interrupted
from tests.trainer.step import random_layers
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import workdir
from trainer.run import evaluate, experiment, train

KERAS = [
    {"layer": "Dropout", "rate": 0.5},
    {"layer": "Reshape", "target_shape": [2, 3]},
    {"layer": "LSTM", "units": 3},
]
INSTEAD = "keras.random with seed=self.seed_generator, a keras.random.SeedGenerator that the layer makes for itself"


def _built(*args, replicas=1, **changes) -> experiment.Experiment:
    return experiment.build(loading.resolve(random_layers.tree(*args, **changes)), problems.strategy(replicas))


def test_what_no_resumed_run_draws_again_is_named():
    """One line for each layer and loss; none for layers of Keras."""
    built = _built(
        ["Stateful", "Nested", "OfTensorFlow", "AlwaysNoisy", *KERAS], f"{random_layers.__name__}:noisy_loss"
    )
    others = "whose state no checkpoint holds, so that a resumed run draws others"
    found = {}
    for line in built.notes:
        who, _, rest = line.partition(" draws random numbers by ")
        found[who], _, end = rest.partition(f", {others}; ")
        assert end == (f"draw in a layer, by {INSTEAD}" if who.startswith("losses.") else f"use {INSTEAD}")
    lines = pathlib.Path(random_layers.__file__).read_text().splitlines()
    first, second = (
        f"random_layers.py:{1 + i}" for i, line in enumerate(lines) if "tf.random.normal(" in line or "map_fn(" in line
    )
    third = f"random_layers.py:{1 + next(i for i, line in enumerate(lines) if 'tf.nn.dropout(' in line)}"
    assert found == {
        "layer 'trunk_0_stateful'": f"TensorFlow's RandomStandardNormal ({first})",
        "layer 'trunk_1_nested'": f"TensorFlow's RandomUniform ({second})",
        "layer 'trunk_1_nested/inner'": f"TensorFlow's RandomStandardNormal ({first})",
        "layer 'trunk_2_of_tensor_flow'": (
            f"TensorFlow's RngReadAndSkip ({third}) and TensorFlow's RandomUniform ({third})"
        ),
        "losses.vector.loss": "a SeedGenerator that no layer holds and TensorFlow's RandomShuffle",
    }


@pytest.mark.parametrize(("layers", "draws"), [(KERAS[:1], True), (KERAS[1:], False), (["AlwaysNoisy"], True)])
def test_layers_that_draw_are_known(layers, draws):
    """An LSTM without dropout holds a generator and draws nothing."""
    built = _built(layers)
    assert (built.draws, built.notes) == (draws, ())


def test_keras_random_without_a_seed_is_refused():
    with pytest.raises(ConfigError) as caught:
        _built(["WithoutSeed"])
    message = str(caught.value)
    assert message.startswith(
        "model='trunk_and_heads': layer 'trunk_0_without_seed' draws by keras.random without a seed"
    )
    assert "(random_layers.py:" in message
    assert message.endswith(f"; use {INSTEAD}")


def test_evaluations_repeat_what_layers_draw(tmp_path):
    """A run, its twin that was interrupted, and an evaluation of its checkpoint agree; training is not disturbed."""

    def config(**changes):
        intervals = {"steps": 6, "eval_every": 3, "checkpoint_every": 2}
        return loading.resolve(random_layers.tree(["AlwaysNoisy"], **(intervals | changes)))

    def run(name, **changes):
        console = Console(file=io.StringIO())
        return train.train(config(**changes), str(tmp_path / name), problems.strategy(1), console)[-1]

    with built_once.building_once():
        whole = run("whole")
        shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
        interrupted.forget_after(tmp_path / "resumed", 2)
        assert run("resumed", eval_every=6) == whole
        run_there = workdir.open_run(str(tmp_path / "resumed"))
        again = evaluate.evaluate(config(), run_there, problems.strategy(1), Console(file=io.StringIO()))
        assert again == whole
    with pytest.raises(ConfigError, match=r"compile is .off. there and .passes. here \(the model draws") as caught:
        run("resumed", steps=8, compile="passes")
    assert str(caught.value).startswith(f"--workdir='{tmp_path}")


def test_draws_of_an_evaluation_differ_between_steps_and_seeds():
    first, other = (_built(["AlwaysNoisy"], replicas=2, seed=seed) for seed in (1, 2))
    for variable, value in zip(other.model.trainable_variables, first.model.trainable_variables, strict=True):
        variable.assign(value)
    evaluate_first, evaluate_other = first.evaluator.build(), other.evaluator.build()
    values = [evaluate(step)["loss/vector"] for evaluate in (evaluate_first, evaluate_other) for step in (3, 4)]
    assert len(set(values)) == 4
    assert evaluate_first(3)["loss/vector"] == values[0]
