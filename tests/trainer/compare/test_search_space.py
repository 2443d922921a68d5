"""Every method has values to try, its own among them, and a configuration takes each of them."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import problems
from trainer.combine.entry import Between, OneOf
from trainer.combine.registry import METHODS
from trainer.compare import search_space
from trainer.compare.search_space import LEARNING_RATE
from trainer.config import loading

SHARES = st.floats(0, 1, exclude_max=True)
# What papers call the free choice of a user, what depends on the number of losses, or changes the cost of a step.
NOT_TUNED = ("preference", "lower_bounds", "trim", "warmup_steps", "rho", "momentum", "iterations")


def configuration(method: str, **changes):
    return loading.resolve(problems.tree(combine__name=method, **changes))


def at(search: Between | OneOf, share: float):
    """An independent reading of a range: the value at a share of it."""
    if isinstance(search, OneOf):
        return search.values[math.floor(share * len(search.values))]
    if search.log:
        return math.exp(math.log(search.low) + share * (math.log(search.high) - math.log(search.low)))
    return search.low + share * (search.high - search.low)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=5, deadline=None)
@given(shares=st.lists(SHARES, min_size=8, max_size=8))
def test_every_method_takes_what_is_tried(method, shares):
    config = configuration(method)
    space = search_space.of(config)
    assert LEARNING_RATE in space
    values = {name: at(each.search, share) for (name, each), share in zip(space.items(), shares, strict=False)}
    tried = search_space.applied(config, values)
    prefix = f"combine.{method}."
    for name, value in values.items():
        if name.startswith(prefix):
            field = name.removeprefix(prefix).replace("lambda", "lambda_")
            assert getattr(getattr(tried.combine, method), field) == value
    assert tried.learning_rate_factors == {"*": pytest.approx(values[LEARNING_RATE], rel=1e-3)} or (
        values[LEARNING_RATE] == 1
    )
    if METHODS[method].weighted:
        before, after = ({name: loss.weight for name, loss in each.losses.items()} for each in (config, tried))
        assert math.fsum(after.values()) == pytest.approx(math.fsum(before.values()), rel=1e-3)
        ratios = [after[name] / before[name] / values[f"losses.{name}.weight"] for name in before]
        assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=2e-3)
    else:
        assert tried.losses == config.losses


@pytest.mark.parametrize("method", METHODS)
def test_the_first_trial_is_the_configuration_itself(method):
    config = configuration(method)
    space = search_space.of(config)
    first, *others = search_space.first(space, 4)
    assert search_space.applied(config, first) == config
    assert search_space.changes(config, first) == {}
    rates = [math.log10(values[LEARNING_RATE]) for values in others]
    assert len({math.floor((rate + 1) * 2) for rate in rates}) == 3  # each in a quarter of its own
    assert others[0][LEARNING_RATE] == search_space.first(search_space.of(configuration("sum")), 4)[1][LEARNING_RATE]
    own = METHODS[method].options
    for field in () if own is None else dataclasses.fields(own):
        is_tuned = f"combine.{method}.{field.name.removesuffix('_')}" in space
        assert is_tuned or field.name in NOT_TUNED or field.metadata["search"] is None
        assert field.metadata["search"] is not None or field.name in NOT_TUNED


def test_learning_rates_are_scaled_on_top_of_what_is_there():
    factors = {"trunk*": 0.5, "*": 2.0, "label*": 3.0}
    config = configuration("sum", learning_rate_factors=factors)
    tried = search_space.applied(config, {LEARNING_RATE: 3.0})
    assert list(tried.learning_rate_factors.items()) == [("trunk*", 1.5), ("*", 6.0), ("label*", 9.0)]
    config = configuration("sum", learning_rate_factors={"trunk*": 0.5})
    tried = search_space.applied(config, {LEARNING_RATE: 3.0})
    assert list(tried.learning_rate_factors.items()) == [("trunk*", 1.5), ("*", 3.0)]


def test_a_range_holds_the_configurations_own_value():
    space = search_space.of(configuration("cagrad", combine__cagrad={"c": 0.99}))
    assert space["combine.cagrad.c"].search == Between(0.05, 0.99)
    space = search_space.of(configuration("famo", combine__famo={"decay": 0.0}))
    assert "combine.famo.decay" not in space  # no logarithmic range holds 0
    assert "combine.famo.learning_rate" in space


def test_choices_that_other_settings_refuse_are_left_out():
    space = search_space.of(configuration("normalized", reduction="features"))
    assert list(space) == [LEARNING_RATE]
    assert "combine.normalized.per_variable" in search_space.of(configuration("normalized"))


def test_weights_that_follow_a_schedule_stay_as_they_are():
    schedule = {"name": "polynomial_decay", "initial_learning_rate": 0.01, "decay_steps": 5}
    config = configuration("weighted", losses__label__weight=schedule, losses__number__weight=0.0)
    assert list(search_space.of(config)) == [LEARNING_RATE, "losses.vector.weight", "losses.vector_l1.weight"]
    alone = configuration("weighted", **{f"losses__{name}__weight": 0.0 for name in ("number", "vector", "vector_l1")})
    assert list(search_space.of(alone)) == [LEARNING_RATE]  # one weight is the learning rate's to decide
