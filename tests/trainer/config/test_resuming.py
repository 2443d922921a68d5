"""Settings of a resumed run that may differ from its own, and those that may not."""

import pathlib

import pytest

from trainer.config import loading, resuming
from trainer.config.settings import Config

DIGITS = str(pathlib.Path(__file__).parents[3] / "configs" / "digits.py")


def _config(method: str, *overrides: str) -> Config:
    return loading.load(DIGITS, [tuple(each.split("=", 1)) for each in overrides], combine=method)


@pytest.mark.parametrize(
    ("method", "there", "here", "found"),
    [
        ("weighted", [], ["reduction=fused", "probe_every=4"], []),
        ("weighted", ["reduction=fused"], [], []),
        ("weighted", ["reduction=per_loss"], [], []),
        ("weighted", [], ["reduction=per_loss"], []),
        ("mgda", ["reduction=features"], ["reduction=features", "report_every=7"], []),
        ("mgda", [], ["reduction=features"], ["reduction is 'auto' there and 'features' here"]),
        ("mgda", ["reduction=features"], [], ["reduction is 'features' there and 'auto' here"]),
        ("mgda", [], ["steps=7"], ["steps is '40 epochs' there and 7 here (a schedule depends on it)"]),
    ],
)
def test_what_may_change(method, there, here, found):
    """Gradients at the trunk's output are others than those of the shared variables, not the same ones rounded."""
    assert resuming.differences(_config(method, *there), _config(method, *here)) == found
