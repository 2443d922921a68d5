"""Workers compare what they are about to do."""

import json
import types

import pytest

from tests import problems
from trainer.common.errors import ConfigError
from trainer.run import agreement


def _workers(**changes):
    """Worker 1 of two, whose chief says the same but for `changes` of its code or configuration."""

    def broadcast_text(text: str) -> str:
        told = json.loads(text)
        for key, value in changes.items():
            for place in (told, told.get("config", {})):
                if key in place:
                    place[key] = place[key] | value if isinstance(value, dict) else value
        return json.dumps(told)

    return types.SimpleNamespace(count=2, rank=1, broadcast_text=broadcast_text, first_text=lambda text: text)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"versions": {"keras": "3.0"}}, r"code: worker 1 is not like worker 0: keras is 3\.0 there and \d\S* here"),
        (
            {"digests": {"tests.problems": "0"}},
            r"code: worker 1 .*: module tests.problems \(/\S*\.py\) is not the same",
        ),
        ({"digests": {"absent": "0"}}, "code: worker 1 .*: module absent is loaded there and not here"),
        ({"seed": 3}, "configuration: worker 1 is not like worker 0: seed is 3 there and 0 here"),
        # Which modules are loaded depends on the configuration, so that this is said first.
        ({"seed": 3, "digests": {"absent": "0"}}, "configuration: .*: seed is 3 there and 0 here"),
        ({"profile": [1, 2]}, r"--profile: .*: it is \[1, 2\] there and None here"),
    ],
)
def test_what_differs_is_named(changes, line):
    with pytest.raises(ConfigError, match=f"^{line}$"):
        agreement.on_start(problems.config(), None, None, _workers(**changes))


def test_workers_that_are_alike():
    assert agreement.on_start(problems.config(), None, None, _workers()) is None


def test_modules_of_the_configuration_are_compared_before_they_are_imported(monkeypatch):
    named = []
    monkeypatch.setattr(agreement, "on_code", lambda workers, names=(), **_: named.extend(names))
    config = problems.config(losses__number__loss="my_losses:mse", dataset__options={"missing": True})
    agreement.on_start(config, None, None, _workers())
    assert set(named) == {"my_losses", "tests.problems"}
