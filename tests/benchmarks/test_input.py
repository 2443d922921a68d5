import pathlib

import numpy as np
import pytest

import tests.problems
from input_pipelines import data
from tests.benchmarks import feeding, input, table
from tests.benchmarks.problems import Preset
from trainer.config import loading


def test_every_bound_has_a_name_of_its_own(tmp_path):
    names = [bound.name for section in input.all_sections(None, tmp_path) for bound in section.bounds]
    assert len(set(names)) == len(names)


def test_without_the_data_nothing_is_measured(capsys, tmp_path):
    results = table.measure(input.all_sections(None, tmp_path))
    assert {result.holds for result in results} == {None}
    assert f"fashion_mnist is not prepared in {tmp_path}" in results[0].reason
    assert capsys.readouterr().out.count("not measured") == len(results)


@pytest.mark.parametrize(
    ("name", "times", "value", "holds"),
    [
        ("in_memory_step", {"step": 12, "in memory": 2}, 6, True),
        ("streaming_step", {"step": 12, "streaming": 8}, 1.5, False),
        ("in_memory_plain", {"in memory": 2, "plain TFDS": 12, "plain TFDS, mapped by batch": 9}, 4.5, False),
        ("streaming_plain", {"streaming": 8, "plain TFDS": 12, "plain TFDS, mapped by batch": 10}, 1.25, True),
        ("rows_parquet", {"TFRecord": 12, "Parquet": 16}, 0.75, False),
        ("rate_step", {"step": 12}, 128 / 0.012, True),
        ("first_batch_memory", {"memory, step 0": 100, "memory, step 1,000,000": 151}, 1.51, False),
        (
            "first_batch_streaming",
            {"streaming, step 0": 100, "streaming, step 1,000,000": 140, "a window": 50},
            0.8,
            True,
        ),
    ],
)
def test_bounds_compare_what_they_say(name, times, value, holds, tmp_path):
    bounds = [bound for section in input.all_sections(None, tmp_path) for bound in section.bounds]
    (bound,) = (bound for bound in bounds if bound.name == name)
    assert set(bound.needs) == set(times)
    assert bound.value(times) == pytest.approx(value)
    assert bound.holds(bound.value(times)) is holds


@pytest.mark.ci_only
def test_what_is_timed_runs(root, monkeypatch):
    monkeypatch.chdir(root)
    preset, strategy = Preset("configs/digits.py", {}), tests.problems.strategy(1)
    assert feeding.pipeline(preset, strategy)(4) > 0
    assert feeding.train(preset, strategy, per_call=2)(2) > 0
    assert feeding.first_batch(preset, strategy, 10**6) > 0


@pytest.mark.ci_only
@pytest.mark.parametrize("by_batch", [False, True])
def test_plain_tfds_gives_what_the_preset_gives(root: pathlib.Path, by_batch):
    data_dir = root.parent / "shared" / "data" / "tfds"
    if not (data_dir / "fashion_mnist").is_dir():
        pytest.skip(f"fashion_mnist is not prepared in {data_dir}")
    preset = Preset(str(root / "configs" / "fashion_mnist.py"), {"dataset.data_dir": repr(str(data_dir))})
    config = loading.load(preset.config, list(preset.overrides.items()))
    (batch,) = feeding.plain_dataset(config.dataset, 32, by_batch=by_batch).take(1).as_numpy_iterator()
    ours = data.build(config.dataset).splits["train"].examples
    known = _rows(ours.inputs, *ours.targets.values())
    assert set(ours.targets) == set(batch["targets"])
    plain = _rows(batch["inputs"], *(batch["targets"][name] for name in ours.targets))
    assert len(plain & known) == 32


def _rows(*columns: np.ndarray) -> set[tuple[bytes, ...]]:
    """Every example as the bytes of what it is made of; pixels in 256 shades, because 1/255 is rounded in two ways."""
    whole = [np.rint(255 * each).astype(np.uint8) if each.dtype.kind == "f" else each for each in columns]
    return {tuple(value.tobytes() for value in row) for row in zip(*whole, strict=True)}
