"""The reference of every key is complete, is the page beside the configurations, and knows what people mean."""

import dataclasses
import pathlib
import re

import pytest

from input_pipelines.configuration import DatasetConfig, InputConfig, QuotaConfig, TargetConfig
from input_pipelines.part_settings import FoldConfig, HeldOutConfig
from trainer.combine import listing
from trainer.combine.registry import METHODS
from trainer.common import schema, synonyms
from trainer.common.errors import ConfigError, listed
from trainer.config import loading, reference, settings

CONFIGS = pathlib.Path(__file__).parents[3] / "configs"
PAGE = CONFIGS / "KEYS.md"
KINDS = {
    "": settings.Config,
    "losses.<name>": settings.LossConfig,
    "metrics.<name>": settings.MetricsConfig,
    "dataset": DatasetConfig,
    "dataset.inputs.<name>": InputConfig,
    "dataset.targets.<name>": TargetConfig,
    "dataset.held_out": HeldOutConfig,
    "dataset.fold": FoldConfig,
    "dataset.sources.<name>": QuotaConfig,
    "model": settings.ModelConfig,
    "combine": settings.CombineConfig,
    "init_from": settings.InitialValuesConfig,
    "segments": settings.SegmentsConfig,
    "best": settings.MonitorConfig,
    "early_stopping": settings.EarlyStoppingConfig,
    "reduce_on_plateau": settings.ReduceOnPlateauConfig,
}
KEYS = {
    schema.join(prefix, schema.key_of(field.name)): field
    for prefix, kind in KINDS.items()
    for field in dataclasses.fields(kind)
}
OF_A_SINGLE_SOURCE = {field.name for field in dataclasses.fields(DatasetConfig)}


def test_every_setting_has_a_meaning():
    for name, field in KEYS.items():
        meaning = field.metadata["meaning"]
        assert meaning.strip() == meaning != "", name
        assert meaning.endswith("."), name
        if field.metadata["default"] is None:
            assert re.search(r"None: |must be given|where it needs one", meaning), f"{name}: what None means"


def test_every_key_is_in_the_reference():
    found = [key.name for section in reference.sections() for key in section.keys]
    assert len(found) == len(set(found))
    left_out = {f"dataset.sources.<name>.{name}" for name in OF_A_SINGLE_SOURCE}  # it says where to find them
    assert set(found) == set(KEYS) - left_out


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference.text(), "python -m trainer.config.reference > configs/KEYS.md"


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]*)#([^)]*)\)", PAGE.read_text())
    assert {anchor for _, anchor in links} == {name for name, method in METHODS.items() if method.options}
    for path, anchor in links:
        assert f"### {anchor}\n" in (CONFIGS / path).read_text()


@pytest.mark.parametrize("text", [reference.for_terminal(), listing.text()])
def test_texts_fit_on_a_terminal(text):
    assert max(map(len, text.splitlines())) <= 88


def test_texts_for_a_terminal_leave_nothing_out():
    for section in reference.sections():
        for key in section.keys:
            assert re.search(rf"^  {re.escape(key.name)}( = |, required)", reference.for_terminal(), re.MULTILINE)
    for name, method in METHODS.items():
        assert f"\n\n{name}\n" in listing.text()
        for field in () if method.options is None else dataclasses.fields(method.options):
            assert f"\n    {name}.{field.name} = " in listing.text()


@pytest.mark.parametrize(
    ("word", "value", "answer"),
    [
        ("lr", "3", "--config.optimizer.learning_rate=3 (also losses.<name>.optimizer.learning_rate)"),
        ("learning_rate", "1e-3", "--config.optimizer.learning_rate=1e-3 (also losses.<name>.optimizer.learn"),
        ("weight_decay", "0.1", "--config.optimizer.weight_decay=0.1 (also"),
        ("optimizer", "sgd", "--config.optimizer=sgd (also losses.<name>.optimizer)"),
        ("batch_size", "64", "--config.batch_size=64"),
        ("bs", None, "--config.batch_size=..."),
        ("bacth_size", "64", "--config.batch_size=64"),
        ("epochs", "5", "--config.steps='5 epochs'"),
        ("epochs", "20 epochs", "--config.steps='20 epochs'"),
        ("epochs", None, "--config.steps='... epochs'"),
        ("max_steps", "500", "--config.steps=500"),
        ("seed", "1", "--config.seed=1"),
        ("loss_weights", "2", "--config.losses.<name>.weight=2"),
        ("held_out", "0.2", "--config.dataset.held_out=0.2"),
        ("patience", "5", "--config.early_stopping.patience=5"),
        ("early_stop", "3", "--config.early_stopping.patience=3"),
        ("data", "x", "--config.dataset.name=x"),
        ("model", "x", "--config.model.name=x"),
    ],
)
def test_flags_that_do_not_exist_mean_a_key(word, value, answer):
    assert reference.meant(word, value).startswith(answer)


@pytest.mark.parametrize("word", ["foo", "num_workers", ""])
def test_flags_that_mean_nothing(word):
    assert reference.meant(word, "1") is None
    assert reference.meant("bacth_size", "64", exactly=True) is None


def test_synonyms_lead_somewhere():
    """Each is a key, or an argument of something built by name, as seen from the run or from one of its sections."""
    built = {name for name, field in KEYS.items() if isinstance(field.metadata["default"], dict)}
    for word, names in synonyms.SYNONYMS.items():
        for name in names:
            seen = [schema.join(prefix, name) for prefix in KINDS]
            assert any(key in KEYS or key.rpartition(".")[0] in built for key in seen), word


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lr=3", "lr=3: unknown key; did you mean 'optimizer.learning_rate'?"),
        ("losses.ink.lr=3", "losses.ink.lr=3: unknown key; did you mean 'optimizer.learning_rate'?"),
        ("epochs=3", "epochs=3: unknown key; did you mean 'steps' ('3 epochs')?"),
        ("max_steps=3", "max_steps=3: unknown key; did you mean 'steps'?"),
        ("combine.method=pcgrad", "combine.method='pcgrad': unknown key; did you mean 'name'?"),
        ("losses.ink.loss_weight=2", "losses.ink.loss_weight=2: unknown key; did you mean 'weight'?"),
        ("gradients=features", "gradients='features': unknown key; did you mean 'reduction'?"),
    ],
)
def test_keys_that_do_not_exist_mean_another(override, words):
    with pytest.raises(ConfigError) as caught:
        loading.load(str(CONFIGS / "digits.py"), [tuple(override.split("=", 1))])
    assert str(caught.value).startswith(words)


def test_what_a_check_accepts_is_said_in_the_same_words_every_time():
    """Also of many names, of which an error lists those nearest to the value that was given."""
    names = [f"{first}{second}" * 4 for first in "abcdefghij" for second in "abcdefghij"]
    assert schema.accepted(schema.choice("word", names)) == listed(names, "")
    assert listed(names, "").endswith(" and 88 more")
    few = [name * 5 for name in names[:12]]
    assert listed(few, "") == ", ".join(few)  # not "and 0 more"
