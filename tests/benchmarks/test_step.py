import subprocess
import sys

import pytest
from absl import app

import tests.problems
from tests.benchmarks import bounds, fit, ours, problems, sections, start, table
from tests.benchmarks.bounds import Bound, NotInstalledError, Section
from tests.benchmarks.workers import WorkerError


def _section(values, **bound):
    """A section of one bound, `ratio`, for which `values` are measured one after another."""
    measured = iter(values)
    ratio = Bound("ratio", "a / b", ("a", "b"), lambda numbers: numbers["a"] / numbers["b"], **bound)
    return Section("ratios", (ratio,), lambda keys: {"a": next(measured), "b": 2.0})


def _evaluate(section):
    (result,) = bounds.evaluate(section, section.bounds, lambda result: None)
    return result


@pytest.mark.parametrize(
    ("values", "sense", "limit", "attempts", "value", "holds"),
    [
        ([3.0], "≤", 1.5, 1, 1.5, True),
        ([3.2, 3.0], "≤", 1.5, 2, 1.5, True),
        ([3.2, 3.6, 3.4], "≤", 1.5, 3, 1.7, False),
        ([3.2, 3.6], "≥", 1.7, 2, 1.8, True),
        ([2.0], "=", 1.0, 1, 1.0, True),
        ([9.0], "≤", None, 1, 4.5, True),
    ],
)
def test_a_bound_that_fails_is_measured_again_three_times_at_most(values, sense, limit, attempts, value, holds):
    result = _evaluate(_section(values, sense=sense, limit=limit))
    assert (result.attempts, result.value, result.holds) == (attempts, pytest.approx(value), holds)


@pytest.mark.parametrize(("error", "holds"), [(NotInstalledError("no torch"), None), (ValueError("no torch"), False)])
def test_a_number_that_cannot_be_had_fails_unless_a_package_is_missing(error, holds):
    result = _evaluate(_section([error], limit=1.5))
    assert (result.attempts, result.value, result.reason, result.holds) == (1, None, "no torch", holds)


@pytest.mark.parametrize(
    ("values", "limit", "row"),
    [
        ([2.5], 1.25, "| `ratio` | a / b | ≤ 1.25 | 1.25 | a 2.5 ms, b 2 ms | yes |"),
        ([3, 3, 3], 1.25, "| `ratio` | a / b | ≤ 1.25 | 1.5 | a 3 ms, b 2 ms | no |"),
        ([3e4], None, "| `ratio` | a / b |  | 15,000 | a 30,000 ms, b 2 ms |  |"),
        ([NotInstalledError("no torch")], 1.25, "| `ratio` | a / b | ≤ 1.25 | no torch | b 2 ms | not measured |"),
    ],
)
def test_rows_of_the_table(values, limit, row):
    assert table.row(_evaluate(_section(values, limit=limit))) == row


def test_only_names_bounds_and_sections(capsys):
    chosen = [_section([1.0]), Section("others", (), lambda keys: {})]
    assert [result.value for result in table.measure(chosen, ["ratios"])] == [0.5]
    assert table.measure(chosen, ["others"]) == []
    with pytest.raises(app.UsageError, match="ratioes must be among others, ratio, ratios"):
        table.measure(chosen, ["ratioes"])
    assert capsys.readouterr().out.count("| `ratio` |") == 1


def test_without_torch_and_jax_their_bounds_are_not_measured_and_the_check_passes(root):
    command = [sys.executable, "-m", "tests.benchmarks.step", "--check", "--only=torchjd,jax_mlp_all,jax_conv_all"]
    command += ["--torch_python=false", "--jax_python=false"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "| `torchjd_pcgrad` |" in done.stdout
    assert "| `jax_mlp_3` |" in done.stdout
    assert "yes" not in done.stdout
    assert done.stdout.count("not measured") == done.stdout.count("| `torch") + done.stdout.count("| `jax_")


@pytest.mark.parametrize("problem", [problems.convolutional(3), problems.small(), problems.dense(16)])
def test_sizes_of_problems_are_those_of_their_models(problem):
    model = ours.build(problem, tests.problems.strategy(1)).model
    heads = sum(v.value.shape.num_elements() for v in model.trainable_variables if "head" in v.path)
    assert (model.count_params(), model.count_params() - heads) == (problem.parameters, problem.trunk_parameters)


def test_payload_is_that_of_a_step_without_a_probe():
    problem = problems.dense(8)
    traced = ours.payload(problem, tests.problems.strategy(2), reduction="fused")
    assert traced == 4 * (problem.parameters + 2 * problem.heads)


@pytest.mark.parametrize("name", ["jax_python", pytest.param("torch_python", marks=pytest.mark.ci_only)])
def test_a_python_that_is_none_is_refused(root, name):
    command = [sys.executable, "-m", "tests.benchmarks.step", "--only=jax_conv_all", f"--{name}=no_such_program"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"--{name}=no_such_program is no program" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("steps", "imports", "value"),
    [([9.0, 6.0, 8.0], [5.0, 4.0, 3.0], 2.0), ([9.0, WorkerError("made no first step")], [5.0], "made no first step")],
)
def test_time_to_the_first_step_as_a_multiple_of_the_imports(monkeypatch, steps, imports, value):
    measured, imported = iter(steps), iter(imports)
    monkeypatch.setattr(start, "_seconds_to_first_step", lambda: next(measured))
    monkeypatch.setattr(start, "_seconds", lambda *command: next(imported))
    section = start.start()
    (bound,) = (bound for bound in section.bounds if bound.name == "first_step_over_imports")
    (result,) = bounds.evaluate(section, [bound], lambda result: None, attempts=1)
    assert value in (result.value, result.reason)


def test_limits_of_the_step_that_are_promised():
    limits = {bound.name: bound.limit for section in sections.sections(workers=None) for bound in section.bounds}
    promised = {
        "jax_mlp": 0.7,
        "jax_mlp_3": 0.8,
        "jax_conv": 0.3,
        "jax_conv_3": 0.3,
        "kernels_conv": 1.1,
        "kernels_mlp": 1.35,
        "per_loss_3": 2.25,
        "first_step_over_imports": 1.8,
        "losses_40": 1.2,
        "losses_100": 1.2,
    }
    assert {name: limits[name] for name in promised} == pytest.approx(promised)


def test_every_bound_has_a_name_of_its_own():
    of_both = (*sections.sections(workers=None), *fit.sections(workers=None))
    names = [bound.name for section in of_both for bound in section.bounds]
    assert len(set(names)) == len(names)
