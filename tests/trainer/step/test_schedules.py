"""Schedules follow the run's steps, for optimizers that are skipped in some of them too."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from input_pipelines.examples import Examples
from tests import problems
from trainer.config import loading
from trainer.output import checkpoint
from trainer.run import experiment
from trainer.run.experiment import Experiment

STEPS, DECAY = 12, 0.1
COSINE = {"name": "cosine_decay", "initial_learning_rate": 0.5}  # over the run
EXPONENTIAL = {"name": "exponential_decay", "initial_learning_rate": 0.3, "decay_steps": 4, "decay_rate": 0.5}
# Loss → its learning rate in a step, written anew.
RATES: dict[str, Callable[[int], float]] = {
    "each": lambda step: 0.25 * (1 + np.cos(np.pi * step / STEPS)),
    "fourth": lambda step: 0.25 * (1 + np.cos(np.pi * step / STEPS)),
    "labelled": lambda step: 0.3 * 0.5 ** (step / 4),
    "third": lambda step: 0.2 - 0.19 * step / STEPS,
}


def load() -> dict[str, Examples]:
    """Numbers for four losses; few examples have a label for one of them."""
    random = np.random.RandomState(0)
    targets = {name: random.normal(size=64) for name in RATES}
    few = (np.arange(64) % 9 == 0).astype(np.float64)
    split = Examples(random.normal(size=(64, 3)), targets, {"labelled": few})
    return {"train": split, "validation": split}


def momentum_with_a_schedule() -> keras.optimizers.Optimizer:
    """An optimizer of the user's own function, which makes the schedule itself."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.2, STEPS, end_learning_rate=0.01)
    return keras.optimizers.SGD(schedule, momentum=0.9)


def _build() -> Experiment:
    layer = {"layer": "Dense", "units": 1, "use_bias": False}
    tree = {
        "precision": "float64",
        "reduction": "per_loss",  # so that reports change nothing
        "batch_size": 6,
        "steps": STEPS,
        "dataset": {"name": f"{__name__}:load"},
        "model": {"heads": {name: [layer] for name in RATES}},
        "losses": {name: {"loss": "mse"} for name in RATES},
        "optimizer": {"learning_rate": COSINE},
    }
    tree["losses"]["fourth"] |= {"every": 4, "offset": 1}
    tree["losses"]["labelled"]["optimizer"] = {"name": "adamw", "learning_rate": EXPONENTIAL, "weight_decay": DECAY}
    tree["losses"]["third"] |= {"every": 3, "optimizer": f"{__name__}:momentum_with_a_schedule"}
    return experiment.build(loading.resolve(tree), problems.strategy(2))


class _Reference:
    """One loss's head and its optimizer in NumPy; every optimizer counts its own updates."""

    def __init__(self, name: str, kernel: np.ndarray):
        self.name, self.kernel, self.updates = name, kernel, 0
        self.mean, self.square = np.zeros_like(kernel), np.zeros_like(kernel)

    def update(self, step: int, inputs: np.ndarray, target: np.ndarray, weights: np.ndarray) -> None:
        """A step on a batch; none without a label."""
        if not weights.any() or {"fourth": step % 4 != 1, "third": step % 3 != 0}.get(self.name, False):
            return
        errors = (inputs @ self.kernel)[:, 0] - target
        gradient = (2 * inputs.T @ (weights * errors) / weights.sum())[:, None]
        rate = RATES[self.name](step)
        self.updates += 1
        if self.name == "third":
            self.mean = 0.9 * self.mean - rate * gradient
            self.kernel = self.kernel + self.mean
            return
        if self.name == "labelled":
            self.kernel = self.kernel * (1 - DECAY * rate)
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        unbiased = np.sqrt(1 - 0.999**self.updates) / (1 - 0.9**self.updates)
        self.kernel = self.kernel - rate * unbiased * self.mean / (np.sqrt(self.square) + 1e-7)


def _kernel(built: Experiment, name: str) -> np.ndarray:
    return built.model.get_layer(f"head_{name}_0_dense").kernel.numpy()


def _references(built: Experiment) -> dict[str, _Reference]:
    """Every head after all steps, from what it is now."""
    found = {name: _Reference(name, _kernel(built, name)) for name in RATES}
    for step, batch in zip(range(STEPS), built.batches(0), strict=False):
        inputs, *others = (
            np.concatenate(built.strategy.experimental_local_results(part))
            for part in (batch["inputs"], *batch["targets"].values(), batch["weights"]["labelled"])
        )
        targets, labelled = dict(zip(batch["targets"], others, strict=False)), others[-1]
        for name, reference in found.items():
            reference.update(step, inputs, targets[name], labelled if name == "labelled" else np.ones(6))
    return found


def test_a_skipped_optimizer_has_the_learning_rate_of_the_step():
    """Adam's bias correction counts its own updates; a run that resumes does the same, bit for bit.

    Keras computes schedules in float32, whatever the variables are.
    """
    built = _build()
    references = _references(built)
    assert [references[name].updates for name in ("each", "fourth", "third")] == [12, 3, 4]
    assert 2 < references["labelled"].updates < 9
    loop = built.step.build()
    problems.train(built, 5, loop=loop)
    saved = checkpoint.state_of(built.model, built.optimizer_groups)
    assert len(saved["optimizers/fourth"]) == 3  # the count of updates, two moments
    half_way = {part: {name: variable.numpy() for name, variable in of.items()} for part, of in saved.items()}
    whole = problems.train(built, STEPS - 5, first_step=5, calls=1, loop=loop)
    for name, reference in references.items():
        np.testing.assert_allclose(_kernel(built, name), reference.kernel, rtol=0, atol=2e-5, err_msg=name)
        assert whole.optimizers[f"{name}/iteration"] == reference.updates
    for step in (0, 5, STEPS):
        values = built.step.report(built.step.initial_state(), built.step.initial_totals(), step)
        for name, rate in RATES.items():
            assert values[f"learning_rate/{name}"] == pytest.approx(rate(step), rel=1e-6, abs=1e-7), (name, step)
    for part, of in saved.items():
        for name, variable in of.items():
            variable.assign(half_way[part][name])
    resumed = problems.train(built, STEPS - 5, first_step=5, loop=loop)
    for values, expected in ((resumed.variables, whole.variables), (resumed.optimizers, whole.optimizers)):
        for name, value in expected.items():
            np.testing.assert_array_equal(values[name], value, err_msg=name)
