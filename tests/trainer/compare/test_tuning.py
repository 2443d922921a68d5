"""Tuning chooses the best of equally many trials, and resumes; trials that cost nothing stand for runs."""

import dataclasses
import json
import math
import shlex
import shutil

import numpy as np
import pytest

from tests import forked, problems
from tests.readmes import TUNED
from tests.trainer.compare import test_compare
from trainer.common import schema
from trainer.common.errors import ConfigError, NonFiniteError
from trainer.compare import search_space, trials
from trainer.config import loading
from trainer.output import records
from trainer.output.history import Reports
from trainer.output.reports import VALIDATION
from trainer.run.hooks import HookReport

pytest.importorskip("optuna", reason="tuning needs the extra 'tune'")
from trainer.compare import tuning  # noqa: E402 (it imports optuna)

CONFIG = loading.resolve(problems.tree(combine__name="cagrad"))
WANTED = tuning.Wanted(trials=12, objective="{loss/label}")
STEPS, EVERY = 10, 2


@dataclasses.dataclass
class _Run:
    """A run as a hook sees it."""

    steps: int = STEPS
    reason: str | None = None

    def stop(self, reason: str) -> None:
        self.reason = reason


def loss(config, step: int) -> float:
    """Least at a learning rate of 0.3 times the configuration's, and c = 0.8; falls over the steps."""
    rate = config.learning_rate_factors.get("*", 1.0)
    return 1 + math.log(rate / 0.3) ** 2 + (config.combine.cagrad.c - 0.8) ** 2 + 1 / step


class Trainer:
    """Trains at once: each trial's reports follow from its configuration.

    Args:
      cell: the cell's directory.
      interrupted: trial → step at which the process is killed, once.
      failing: what a trial raises, where it raises something.
    """

    def __init__(self, cell, interrupted=(), failing=lambda number, config: None):
        self.cell, self.interrupted, self.failing = cell, dict(interrupted), failing
        self.configs = {}

    def __call__(self, config, number, hook) -> None:
        self.configs[number], run = config, _Run()
        path = trials.path(self.cell, number)
        path.mkdir(exist_ok=True)
        if error := self.failing(number, config):
            raise error
        with (path / "metrics.jsonl").open("w") as file:
            for step in range(EVERY, STEPS + 1, EVERY):
                values = {"loss/label": loss(config, step)}
                file.write(json.dumps({"step": step, "split": "validation", **values}) + "\n")
                hook.function(run, step, HookReport("evaluation", "validation", values))
                if self.interrupted.get(number) == step:
                    del self.interrupted[number]
                    raise KeyboardInterrupt
                if run.reason is not None:
                    return


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A cell that nothing interrupted."""
    cell = tmp_path_factory.mktemp("tuned")
    trainer = Trainer(cell)
    return cell, tuning.tune(CONFIG, cell, WANTED, trainer), trainer


def test_the_best_of_all_trials_is_chosen(tuned):
    cell, chosen, trainer = tuned
    found = trials.read(cell)
    assert [each.number for each in found.trials] == list(range(WANTED.trials))
    assert trainer.configs[0] == CONFIG  # no method loses by being tuned
    for each in found.trials:
        assert trainer.configs[each.number] == search_space.applied(CONFIG, each.values)
        if each.state == trials.COMPLETE:
            assert each.value == loss(trainer.configs[each.number], STEPS)
    complete = {each.number: each.value for each in found.trials if each.state == trials.COMPLETE}
    assert found.chosen == min(complete, key=complete.get) != 0
    assert chosen == trainer.configs[found.chosen] == trials.chosen(cell, CONFIG)
    assert chosen.seed == found.seed == CONFIG.seed
    changes = {key.replace(".", "__"): value for key, value in found.settings.items()}
    assert loading.resolve(problems.tree(combine__name="cagrad", **changes)) == chosen


def test_what_is_learned_from_trials_helps(tuned):
    """The trials that Optuna suggests are better than those that are merely spread over the ranges."""
    cell, _, trainer = tuned
    values = [loss(trainer.configs[number], STEPS) for number in range(WANTED.trials)]
    assert np.median(values[6:]) < np.median(values[:6])


def test_only_what_is_worse_than_the_median_is_pruned(tuned):
    cell, _, trainer = tuned
    curves, pruned = {}, []
    for each in trials.read(cell).trials:
        curve, ended = {}, None
        for step in range(EVERY, STEPS, EVERY):
            curve[step] = loss(trainer.configs[each.number], step)
            earlier = [other[step] for other in curves.values()]
            if step >= STEPS // 2 and len(earlier) >= 2 and min(curve.values()) > np.median(earlier):
                ended = step
                break
        if ended is None:
            assert each.state == trials.COMPLETE
            curves[each.number] = curve
        else:
            assert each.state == trials.PRUNED
            assert each.reason == f"worse than the median of earlier trials at step {ended}"
            pruned.append(each.number)
    assert pruned


def test_a_killed_process_resumes(tuned, tmp_path):
    """Killed in every trial once: the trials, what is chosen and the file are as if nothing had happened."""
    trainer = Trainer(tmp_path, interrupted=dict.fromkeys(range(WANTED.trials), 6))
    for _ in range(WANTED.trials):
        try:
            tuning.tune(CONFIG, tmp_path, WANTED, trainer)
        except KeyboardInterrupt:
            with (tmp_path / tuning.JOURNAL).open("ab") as file:
                file.write(b'{"op_code":')  # a line that was torn
    cell, chosen, _ = tuned
    assert tuning.tune(CONFIG, tmp_path, WANTED, trainer) == chosen
    assert (tmp_path / trials.NAME).read_bytes() == (cell / trials.NAME).read_bytes()


def test_trials_that_fail_count_and_are_not_chosen(tmp_path):
    def failing(number, config):
        return NonFiniteError(3, ["label"]) if number in (1, 2) else None

    trainer, said = Trainer(tmp_path, failing=failing), []
    wanted = dataclasses.replace(WANTED, trials=4)
    tuning.tune(CONFIG, tmp_path, wanted, trainer, said.append)
    assert [each.state for each in said] == ["complete", "failed", "failed", "complete"]
    assert said[1].reason.startswith("step 3: loss 'label' became non-finite")
    assert trials.read(tmp_path).chosen in (0, 3)
    for other in (dataclasses.replace(wanted, objective="loss/number"), wanted):
        config = CONFIG if other is not wanted else search_space.applied(CONFIG, {"combine.cagrad.c": 0.99})
        with pytest.raises(ConfigError, match="holds trials of another objective or over other values"):
            tuning.tune(config, tmp_path, other, trainer)


def test_a_cell_that_cannot_be_trained_says_why(tmp_path):
    error = ConfigError("micro_batches", 2, "must be 1")
    with pytest.raises(ConfigError, match="micro_batches=2: must be 1"):
        tuning.tune(CONFIG, tmp_path / "refused", WANTED, Trainer(tmp_path / "refused", failing=lambda *_: error))
    wanted = dataclasses.replace(WANTED, trials=2)
    broken = Trainer(tmp_path / "failing", failing=lambda *_: ValueError("of a user's code"))
    with pytest.raises(tuning.RunError, match="none of 2 trials has a value of .* first: ValueError: of a user's code"):
        tuning.tune(CONFIG, tmp_path / "failing", wanted, broken)


@pytest.mark.ci_only
def test_a_tuned_comparison_that_is_killed_and_resumes(root, tmp_path):
    """The command, killed in a trial: what follows is what a process that sees the same reports would do at once."""
    _, _, _, *flags = shlex.split(TUNED)
    few = ("--combine=weighted", "--tuned=3", "--seeds=1", "--timed_steps=0")
    flags += [*few, "--config.steps=10", "--config.eval_every=5", f"--workdir={tmp_path / 'all'}"]
    cell = tmp_path / "all" / "weighted"
    with forked.started("trainer.compare", *flags, cwd=root) as program:
        test_compare.wait_for(trials.path(cell, 1) / "config.json")
        program.kill()
    test_compare.wait_for_end(trials.path(cell, 1))
    assert trials.read(cell).chosen is None
    result = forked.run("trainer.compare", *flags, cwd=root)
    assert (result.returncode, result.stderr) == (0, "")

    def replay(config, number, hook):
        assert loading.load_saved(trials.path(cell, number) / "config.json") == config
        path = trials.path(tmp_path / "replayed", number)
        path.mkdir()
        shutil.copy(trials.path(cell, number) / "metrics.jsonl", path)
        for report in Reports(path / "metrics.jsonl"):
            if report.split == VALIDATION:
                hook.function(_Run(), report.step, HookReport("evaluation", VALIDATION, report.values))

    wanted = tuning.Wanted(3, "{loss/progression} + {loss/high_pressure}")
    config = loading.load("configs/own_table.py", [("steps", "10"), ("eval_every", "5")], "weighted")
    chosen = tuning.tune(config, tmp_path / "replayed", wanted, replay)
    assert (tmp_path / "replayed" / trials.NAME).read_bytes() == (cell / trials.NAME).read_bytes()
    run = records.read(cell / "seed_1")
    assert (run.config, run.is_complete) == (schema.as_dict(dataclasses.replace(chosen, seed=1)), True)
    tuned = json.loads((tmp_path / "all" / "results.json").read_text())["cells"][0]["tuning"]
    assert tuned == json.loads((cell / trials.NAME).read_text())
    again = forked.run("trainer.compare", *flags, "--tuned=4", cwd=root)
    assert again.returncode == 2
    assert "holds a comparison with --tuned=3 --objective='{loss/progression} + {loss/high_pressure}'" in again.stderr
