"""Arguments that cannot be used are named."""

import pytest

from tests.trainer.combine.test_aggregate import HAND
from trainer.combine import aggregate
from trainer.common.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("pcgrd", HAND), {}, "name"),
        (("pcgrad", HAND), {"alpha": 1}, "combine.pcgrad.alpha"),
        (("normalized", HAND), {"per_variable": 3}, "combine.normalized.per_variable"),
        (("cagrad", HAND), {"c": 1.5}, "combine.cagrad.c"),
        (("cagrad", HAND), {"c": -0.1}, "combine.cagrad.c"),
        (("fair_grad", HAND), {"alpha": 0}, "combine.fair_grad.alpha"),
        (("upgrad", HAND), {"preference": [1.0]}, "combine.upgrad.preference"),
        (("upgrad", HAND), {"preference": [0.0, 0.0]}, "combine.upgrad.preference"),
        (("upgrad", HAND), {"preference": [1.0, -1.0]}, "combine.upgrad.preference.1"),
        (("fair_grad", HAND), {"preference": [1.0, 0.0]}, "combine.fair_grad.preference.1"),
        (("mgda", HAND), {"normalize": "l1"}, "combine.mgda.normalize"),
        (("mgda", HAND), {"normalize": "loss"}, "losses"),
        (("trimmed_mean", HAND), {}, "combine.trimmed_mean.trim"),
        (("famo", HAND), {"losses": [1.0, 2.0], "lower_bounds": [0.0]}, "combine.famo.lower_bounds"),
        (("famo", HAND), {"losses": [1.0, 2.0], "lower_bounds": 1.0}, "losses.0"),
        (("geometric", HAND), {}, "losses"),
        (("geometric", HAND), {"losses": [1.0, 0.0]}, "losses.1"),
        (("sum", HAND[0]), {}, "jacobian"),
        (("sum", HAND.astype(int)), {}, "jacobian"),
        (("sum", HAND), {"active": [True]}, "active"),
        (("sum", HAND), {"losses": [1.0]}, "losses"),
        (("sum", HAND), {"jacobian2": HAND}, "jacobian2"),
        (("modo", HAND), {"jacobian2": HAND[:, :2]}, "jacobian2"),
        (("weighted", HAND), {"weights": [1.0, 2.0, 3.0]}, "weights"),
    ],
)
def test_bad_arguments_are_named(arguments, options, field):
    with pytest.raises(ConfigError) as caught:
        aggregate(*arguments, **options)
    assert caught.value.field == field
