"""Input pipelines beside the step that they feed and beside plain TFDS, as a Markdown table with bounds.

python -m tests.benchmarks.input --check
python -m tests.benchmarks.input --only=first_batch --data_dir=/path/to/prepared/data

The preset is configs/fashion_mnist.py on TFDS's own data, which must be prepared. Its step takes one backward pass
(`reduction=fused`) and is fed from memory: nothing consumes examples faster. Contenders take turns in rounds, each idle
while another is measured; ratios are those of medians; a bound that does not hold is measured again, three times at
most.
"""

import pathlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence

from absl import app, flags

from tests.benchmarks import processes, stored_rows, table, timing
from tests.benchmarks.bounds import Bound, NotInstalledError, Section
from tests.benchmarks.problems import Preset
from tests.benchmarks.rounds import Contender, Workers
from tests.benchmarks.workers import WorkerError

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    str(processes.ROOT.parent / "shared" / "data" / "tfds"),
    "Where TFDS keeps the prepared fashion_mnist.",
)
_CONFIG, _DATASET = "configs/fashion_mnist.py", "fashion_mnist"
_BATCH_SIZE = 128
_PER_CALL = 20
_TAKEN = 128  # batches at a time: more than are made ahead of time
_FAR = 1_000_000
_ROUNDS = 5
_WORKER = "one device"


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    table.check(table.run(lambda workers: all_sections(workers, pathlib.Path(_DATA_DIR.value))))


def all_sections(workers: Workers, data_dir: pathlib.Path) -> tuple[Section, ...]:
    """All sections, measured by these workers on the data that TFDS prepared there."""
    presets = {feed: _preset(data_dir, feed) for feed in ("memory", "streaming")}
    found = (_throughput(workers, presets), _rows(workers), _first_batch(workers, presets))
    return found if (data_dir / _DATASET).is_dir() else tuple(_not_measured(each, data_dir) for each in found)


def _preset(data_dir: pathlib.Path, feed: str) -> Preset:
    overrides = {
        "dataset.data_dir": repr(str(data_dir)),
        "dataset.feed": feed,
        "batch_size": str(_BATCH_SIZE),
        "reduction": "fused",
    }
    return Preset(_CONFIG, overrides)


def _throughput(workers: Workers, presets: Mapping[str, Preset]) -> Section:
    contenders = {
        "step": Contender(_WORKER, "preset", presets["memory"], _PER_CALL, {"per_call": _PER_CALL}),
        "in memory": Contender(_WORKER, "pipeline", presets["memory"], _TAKEN),
        "streaming": Contender(_WORKER, "pipeline", presets["streaming"], _TAKEN),
        "plain TFDS": Contender(_WORKER, "plain", presets["streaming"], _TAKEN, {"by_batch": False}),
        "plain TFDS, mapped by batch": Contender(_WORKER, "plain", presets["streaming"], _TAKEN, {"by_batch": True}),
    }
    plain = [name for name in contenders if name.startswith("plain")]
    limits = {
        ("step", "in memory"): 5.0,
        ("step", "streaming"): 2.0,
        ("plain", "in memory"): 5.0,
        ("plain", "streaming"): 1.0,
    }
    ratios = []
    for (other, ours), limit in limits.items():
        others = plain if other == "plain" else [other]
        what = "plain TFDS at its best" if other == "plain" else other

        def ratio(times: Mapping[str, float], others: Sequence[str] = others, ours: str = ours) -> float:
            return min(times[name] for name in others) / times[ours]

        needs = (*others, ours)
        ratios.append(
            Bound(f"{_key(ours)}_{other}", f"{what} / {ours}, {_BATCH_SIZE} examples", needs, ratio, "≥", limit)
        )
    rates = [
        Bound(f"rate_{_key(name)}", f"examples per second, {name}", (name,), _rate, unit="/s") for name in contenders
    ]
    return timing.timed(workers, "throughput", contenders, *ratios, *rates)


def _rows(workers: Workers) -> Section:
    """The rows of a table as Parquet beside the same as TFRecords."""
    names = ("TFRecord", "Parquet")
    what = f"TFRecord / Parquet, {_BATCH_SIZE} rows of a table, streaming"
    bound = Bound("rows_parquet", what, names, lambda times: times[names[0]] / times[names[1]], "≥", 1.0)

    def measure(keys: Sequence[str]) -> dict[str, float | Exception]:
        with tempfile.TemporaryDirectory() as folder:
            presets = stored_rows.write(pathlib.Path(folder), _BATCH_SIZE)
            contenders = {name: Contender(_WORKER, "pipeline", preset, _TAKEN) for name, preset in presets.items()}
            return timing.timed(workers, "rows", contenders, bound).measure(keys)

    return Section("rows", (bound,), measure)


def _first_batch(workers: Workers, presets: Mapping[str, Preset]) -> Section:
    calls = {
        f"{feed}, step {step:,}": ("first_batch", {"preset": preset.plain, "step": step})
        for feed, preset in presets.items()
        for step in (0, _FAR)
    }
    calls["a window"] = ("window", {"preset": presets["streaming"].plain})

    def measure(keys: Sequence[str]) -> dict[str, float | Exception]:
        times: dict[str, list[float]] = {key: [] for key in keys}
        try:
            for turn in range(_ROUNDS + 1):
                for key in keys[:: 1 if turn % 2 == 0 else -1]:
                    function, arguments = calls[key]
                    seconds = workers.get(_WORKER).call(function, **arguments)
                    if turn:  # the first builds
                        times[key].append(1e3 * seconds)
        except WorkerError as error:
            return dict.fromkeys(keys, error)
        return {key: statistics.median(own) for key, own in times.items()}

    memory, far_memory, streaming, far_streaming, window = calls
    what = f"time to the first batch at step {_FAR:,}"
    bounds = (
        Bound(
            "first_batch_memory",
            f"{what} / at step 0, in memory",
            (far_memory, memory),
            lambda times: times[far_memory] / times[memory],
            "≤",
            1.5,
        ),
        Bound(
            "first_batch_streaming",
            f"{what} beyond that at step 0, in times that reading a window takes, streaming",
            (far_streaming, streaming, window),
            lambda times: (times[far_streaming] - times[streaming]) / times[window],
            "≤",
            1.0,
        ),
        Bound(
            "first_batch_streaming_ratio",
            f"{what} / at step 0, streaming",
            (far_streaming, streaming),
            lambda times: times[far_streaming] / times[streaming],
        ),
    )
    return Section("first_batch", bounds, measure)


def _not_measured(section: Section, data_dir: pathlib.Path) -> Section:
    error = NotInstalledError(f"{_DATASET} is not prepared in {data_dir}")
    return Section(section.name, section.bounds, lambda keys: dict.fromkeys(keys, error), section.unit)


def _rate(times: Mapping[str, float]) -> float:
    (milliseconds,) = times.values()
    return 1e3 * _BATCH_SIZE / milliseconds


def _key(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


if __name__ == "__main__":
    app.run(main)
