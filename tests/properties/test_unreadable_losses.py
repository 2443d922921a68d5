"""Losses that cannot read what they ask for are refused in one line, before the first step."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from tests.properties.reading_losses import tree
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment

HERE = "tests.properties.test_unreadable_losses"


def no_scalar(mu: tf.Tensor) -> tf.Tensor:
    """A loss as many write it, and as it cannot be used here."""
    return tf.reduce_mean(mu)


def independent(u: tf.Tensor, time: tf.Tensor, derivative: Any) -> tf.Tensor:
    """Differentiates an output that does not depend on the input."""
    return derivative(u, time)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"losses__kl__reads__mu": "heads.nu"}, r"losses\.kl\.reads\.mu='heads\.nu': unknown head.*heads\.mu"),
        ({"losses__kl__reads__mu": "inputs.picture"}, r"losses\.kl\.reads\.mu=.*unknown input.*inputs\.image"),
        ({"losses__kl__reads__mu": "inputs"}, r"losses\.kl\.reads\.mu='inputs': unknown input.*inputs\.image"),
        ({"losses__kl__reads__mu": "targets.digits"}, r"losses\.kl\.reads\.mu=.*'targets\.digit'"),
        ({"losses__kl__reads__mu": "layers.encodr"}, r"losses\.kl\.reads\.mu=.*'layers\.encoder'"),
        ({"losses__kl__reads__nu": "heads.mu"}, r"losses\.kl\.reads\.nu='heads\.mu': unknown argument.*mu"),
        ({"losses__kl__reads": {"mu": "heads.mu"}}, r"losses\.kl\.reads\.log_sigma: is missing"),
        ({"losses__kl__loss__mu": 1}, r"losses\.kl\.reads\.mu='heads\.mu': is given by losses\.kl\.loss\.mu"),
        ({"losses__kl__loss__scal": 1}, r"losses\.kl\.loss\.scal=1: unknown argument.*'scale'"),
        (
            {"losses__reconstruction__reads": {"y_pred": "heads.mu"}},
            r"losses\.reconstruction\.reads\.y_true: is missing",
        ),
        (
            {"losses__kl": {"loss": f"{HERE}:no_scalar", "reads": {"mu": "heads.mu"}}},
            r"losses\.kl\.loss='no_scalar': returns a scalar",
        ),
        (
            {"losses__kl": {"loss": f"{HERE}:independent", "reads": {"u": "heads.mu", "time": "inputs.time"}}},
            r"losses\.kl\.loss: derivative\(output, input\): the output does not depend on 'time'",
        ),
        ({"losses__residual__over": "replica"}, r"losses\.residual\.over='replica'.*differentiates"),
        ({"losses__sparsity__reads__code": "layers.adding"}, r"model='layers\.adding': is called 2 times"),
        (
            {"losses__reconstruction__reads__y_pred": "heads.field"},
            r"reconstruction\.reads\.y_true='inputs\.image': has shape \(6,\).*heads\.field, which gives \(1,\)",
        ),
        (
            {"losses__kl": {"loss": "gaussian_nll", "reads": {"y_true": "inputs.time", "y_pred": "layers.encoder"}}},
            r"losses\.kl\.reads\.y_pred='layers\.encoder': layers\.encoder gives \(5,\) per example; .*needs 2",
        ),
        ({"losses__others__from": "mu"}, r"losses\.others\.from='mu': unknown layer.*adding, encoder"),
        ({"losses__others__from": "adding"}, r"losses\.others\.from='adding': is that of losses\.adding, too"),
        ({"metrics__sum__target": "nothing"}, r"metrics\.sum\.target='nothing': unknown target"),
        ({"metrics__sum__metrics": ["mea"]}, r"metrics\.sum\.metrics\.0='mea'"),
    ],
)
def test_what_cannot_be_read_is_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        experiment.build(loading.resolve(tree(**changes)), problems.strategy(1))


def test_a_loss_that_a_layer_adds_is_never_lost():
    changed = tree()
    del changed["losses"]["others"]
    with pytest.raises(ConfigError, match=r"model='encoder': adds losses.*\"<name>\": {\"from\": \"encoder\"}"):
        experiment.build(loading.resolve(changed), problems.strategy(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"combine__name": "mgda", "reduction": "features"}, r"reduction='features': sees .*losses\.sparsity.*encoder"),
        ({"combine__name": "modo"}, r"losses\.adding\.from='adding': .*halves"),
        ({"losses__sparsity__over": "global_batch"}, r"losses\.sparsity\.over=.*layers\.encoder"),
        ({"losses__sparsity__weighted_metrics": ["mae"]}, r"losses\.sparsity\.weighted_metrics"),
        ({"losses__sparsity__class_weights": "balanced"}, r"losses\.sparsity\.class_weights"),
    ],
)
def test_refused_by_the_configuration_alone(changes, words):
    with pytest.raises(ConfigError, match=words):
        loading.resolve(tree(**changes))


def from_input(picture: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Of the only input, which has no name, and a head."""
    return tf.reduce_sum((picture[:, :3] - vector) ** 2, -1)


def curvature(x: tf.Tensor, y: tf.Tensor, derivative: Any) -> tf.Tensor:
    """Of a derivative by the only input."""
    return tf.reduce_sum(derivative(y, x), -1)


def _features(**changes: Any) -> dict[str, Any]:
    reads = {"loss": f"{HERE}:from_input", "reads": {"picture": "inputs", "vector": "heads.vector"}}
    return problems.tree(combine__name="mgda", losses__vector_l1=reads, reduction="features", **changes)


def test_features_with_an_input_and_without_derivatives():
    """The first losses are those of a pass for each loss; a derivative needs the model in one piece."""
    with eager.functions():
        cut, whole = (
            problems.train(experiment.build(loading.resolve(_features() | more), problems.strategy(1)), 1).losses
            for more in ({}, {"reduction": "per_loss"})
        )
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-12)
    differs = {"loss": f"{HERE}:curvature", "reads": {"x": "inputs", "y": "heads.number"}}
    for changes, words in (({}, "reduction='features': cuts the model"), ({"reduction": "per_loss"}, "recompute=True")):
        changed = _features(losses__curvature=differs, model__recompute=bool(changes)) | changes
        with pytest.raises(ConfigError, match=words):
            experiment.build(loading.resolve(changed), problems.strategy(1))


def test_a_saved_configuration_is_the_same(tmp_path):
    config = loading.resolve(tree())
    loading.save(config, tmp_path / "config.json")
    assert loading.load_saved(tmp_path / "config.json") == config
