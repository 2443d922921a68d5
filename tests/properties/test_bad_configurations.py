"""Bad configurations, in bulk: valid ones with one to three mistakes train a step or give an error of one line."""

import dataclasses
import io
import json
import os
import pathlib
import tempfile
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from rich.console import Console

from configs import digits
from tests import config_files, forked, problems
from tests.properties.mistakes import BASES, VALUES, Case, cases, places
from tests.trainer.test_main import run
from trainer.common.errors import ConfigError, RunError
from trainer.config import loading
from trainer.config.settings import Config
from trainer.run import train

CASES_PER_BASE = 61  # of 8 bases, in one process; with those of the command line more than 500
LONGEST_LINE = 600
# The same cases in every run. One that fails is reported as it is: making it smaller would train for minutes.
SETTINGS = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "phases": (hypothesis.Phase.generate,),
    "suppress_health_check": list(hypothesis.HealthCheck),
}

_FIELDS = tuple(field.name for field in dataclasses.fields(Config))


def _assert_names_its_field(error: ConfigError, case: Case) -> None:
    _assert_one_line(error)
    assert error.field.startswith(_FIELDS) or any(error.field in mistake for mistake in case.mistakes)


def _assert_one_line(error: Exception) -> None:
    assert str(error).isprintable()
    assert len(str(error)) <= LONGEST_LINE


def train_one_step(config: Config) -> ConfigError | RunError | None:
    """Trains a step; returns the error that ends the run, if one does."""
    with tempfile.TemporaryDirectory() as place:
        workdir = pathlib.Path(place) / "run"
        one_step = dataclasses.replace(config, steps=1)
        try:
            train.train(one_step, str(workdir), problems.strategy(1), Console(file=io.StringIO()))
        except ConfigError as error:
            assert not list(pathlib.Path(place).iterdir())
            return error
        except RunError as error:
            assert (workdir / "config.json").exists()
            return error
        assert (workdir / "report.md").exists()
        return None


def _as_resolved(config: Config) -> str:
    return json.dumps(dataclasses.asdict(config))


CI = os.environ.get("CI") == "true"
BY_HAND = ("turns",)  # whose steps take least; CI has the time for all


@pytest.mark.ci_only
@pytest.mark.parametrize("name", BASES)
def test_bases_are_valid(name):
    assert train_one_step(loading.resolve(BASES[name])) is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in BY_HAND else pytest.mark.ci_only) for name in BASES]
)
def test_mistakes_train_a_step_or_give_one_line(name):
    outcomes = {}  # by resolved configuration: many mistakes leave one that was tried already

    @hypothesis.seed(list(BASES).index(name))
    @hypothesis.settings(max_examples=CASES_PER_BASE if CI else CASES_PER_BASE // 3, **SETTINGS)
    @hypothesis.given(cases(BASES[name]))
    def check(case: Case) -> None:
        try:
            config = loading.resolve(case.tree)
        except ConfigError as error:
            _assert_names_its_field(error, case)
            return
        key = _as_resolved(config)
        if key not in outcomes:
            outcomes[key] = train_one_step(config)
        if isinstance(outcomes[key], ConfigError):
            _assert_names_its_field(outcomes[key], case)
        elif outcomes[key] is not None:
            _assert_one_line(outcomes[key])

    check()


_KEYS_OF_DIGITS = [".".join(map(str, path)) for path in places(BASES["digits"])]
_WORDS = (
    "\\d",
    "[" * 5000,
    "1" * 5000,
    "{'a': {1: 2}}",
    "1e999",
    "{1, 2}",
    "0x",
    "...",
    "b''",
    "(",
    "f'{1}'",
    "1 if 1 else",
)


@hypothesis.settings(max_examples=200 if CI else 80, **SETTINGS)
@hypothesis.given(
    st.one_of(
        st.sampled_from(_KEYS_OF_DIGITS),
        st.tuples(st.sampled_from(_KEYS_OF_DIGITS), st.text()).map("".join),
        st.text(),
    ),
    st.one_of(st.text(), st.sampled_from(_WORDS), st.sampled_from(VALUES).map(repr)),
)
def test_overrides_of_any_text_resolve_or_give_one_line(key, text):
    try:
        loading.load(digits.__file__, [(key, text)])
    except ConfigError as error:
        _assert_names_its_field(error, Case({}, (f"--config.{key}", repr(key.partition(".")[0]))))


# ---------------------------------------------------------------------------------------------------------------------
# The same on the command line.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolves", "count"), [(False, 15 if CI else 8), (True, 5 if CI else 3)])
def test_mistakes_on_the_command_line(tmp_path, root, resolves, count):
    """One line and exit code 2, most of them before TensorFlow is loaded; or a step."""
    found = []

    @hypothesis.seed(len(BASES))
    @hypothesis.settings(max_examples=count, **SETTINGS)
    @hypothesis.given(st.sampled_from(list(BASES.values())).flatmap(cases))
    def collect(case: Case) -> None:
        hypothesis.assume(_resolves(case.tree) is resolves)
        found.append(case)

    collect()
    assert len(found) == count
    for index, case in enumerate(found):
        place = tmp_path / str(index)
        place.mkdir()
        (tmp_path / f"{index}.py").write_text(config_files.text(case.tree))
        arguments = [f"--config=../{index}.py", "--workdir=run", "--config.steps=1"]
        # What resolves imports TensorFlow, which the one that this forks from has done.
        result = (
            forked.run("trainer.main", *arguments, cwd=place) if resolves else run(*arguments, cwd=place, root=root)
        )
        lines = result.stderr.splitlines()
        if result.returncode == 0:
            assert not lines, case
            assert (place / "run" / "report.md").exists()
            continue
        assert result.returncode in (1, 2), case
        assert len(lines) == 1, case
        assert lines[0].startswith("error: ")
        assert len(lines[0]) <= LONGEST_LINE
        assert list(place.iterdir()) == ([] if result.returncode == 2 else [place / "run"])


def _resolves(tree: dict[str, Any]) -> bool:
    try:
        loading.resolve(tree)
    except ConfigError:
        return False
    return True
