"""A made-up river with eight gauges: from their readings of the last 60 hours, each one's flow 48 hours later.

Of the form of River Flow 1 (RF1, Spyromitros-Xioufis et al. 2016, https://doi.org/10.1007/s10994-016-5546-z): 9,125
rows, 64 inputs, eight targets that depend on one another, and gaps. The numbers are simulated, the same on every
machine. Rain falls on every gauge's own land, some of it everywhere at once; land holds it back for days; what passes a
gauge reaches the next one downstream after 12 to 36 hours. So a flow is known better the further down the river it is.
"""

import numpy as np

from input_pipelines.configuration import TRAIN, VALIDATION
from input_pipelines.examples import Examples

TEST = "test"
HOURS_PER_STEP = 6
LAGS, AHEAD = (0, 1, 2, 3, 4, 6, 8, 10), 8  # in steps
ROWS = 9125
_SHARES = {TRAIN: 0.6, VALIDATION: 0.2, TEST: 0.2}  # one after another in time
# Gauge → the gauges above it, each with the steps that water takes from there; from the sources to the mouth.
_UPSTREAM: dict[str, dict[str, int]] = {
    "north_fork": {},
    "south_fork": {},
    "east_creek": {},
    "junction": {"north_fork": 2, "south_fork": 3},
    "valley": {"junction": 4},
    "confluence": {"valley": 2, "east_creek": 3},
    "gorge": {"confluence": 4},
    "delta": {"gorge": 6},
}
GAUGES = tuple(_UPSTREAM)
_CATCHMENT = (1.0, 1.4, 0.5, 0.4, 0.3, 0.4, 0.2, 0.2)  # area of a gauge's own land
_MEMORY = (0.94, 0.97, 0.92, 0.95, 0.96, 0.94, 0.96, 0.97)  # share of its water that land still holds a step later
_NOISE = (0.02, 0.05, 0.15, 0.02, 0.05, 0.02, 0.10, 0.02)  # deviation of a reading's logarithm
_OUT = (0.0, 0.1, 0.3, 0.0, 0.05, 0.0, 0.2, 0.0)  # share of the time in which a gauge is out of order
_OUTAGE = 12  # steps, on average
_RIVER_MEMORY = 0.5  # flood waves flatten on their way


def load() -> dict[str, Examples]:
    """The splits `train`, `validation` and `test`, three fifths and twice one fifth of the rows in the order of time.

    Inputs: (examples, 64), the readings of all gauges now and 6, 12, 18, 24, 36, 48 and 60 hours ago, all of one time
    together; a gauge that is out of order repeats its last reading. Targets: for each gauge its flow 48 hours later,
    one number, missing where the gauge is out of order then. All are logarithms, standardised by the readings of the
    training rows. Between two splits lie as many steps as a row spans, so that no reading is in two of them.
    """
    random = np.random.RandomState(0)
    steps = ROWS + LAGS[-1] + AHEAD
    readings = np.log(_flows(random, steps)) + random.normal(size=(steps, len(GAUGES))) * _NOISE
    works = _works(random, steps)
    known = readings[: LAGS[-1] + int(_SHARES[TRAIN] * ROWS)]
    readings = (readings - known.mean(axis=0)) / known.std(axis=0)
    last = np.maximum.accumulate(np.where(works, np.arange(steps)[:, np.newaxis], 0), axis=0)
    shown = np.take_along_axis(readings, last, axis=0)

    def split(rows: np.ndarray) -> Examples:
        now, later = rows + LAGS[-1], rows + LAGS[-1] + AHEAD
        return Examples(
            inputs=np.concatenate([shown[now - lag] for lag in LAGS], axis=1),
            targets={name: readings[later, gauge] for gauge, name in enumerate(GAUGES)},
            weights={
                name: works[later, gauge].astype(np.float32) for gauge, name in enumerate(GAUGES) if _OUT[gauge] > 0
            },
        )

    ends = np.cumsum([int(share * ROWS) for share in _SHARES.values()])
    spanned = LAGS[-1] + AHEAD
    starts = [0, *(ends[:-1] + spanned)]
    return {name: split(np.arange(start, end)) for name, start, end in zip(_SHARES, starts, ends, strict=True)}


def _flows(random: np.random.RandomState, steps: int) -> np.ndarray:
    """(steps, gauges) the water that passes every gauge."""
    season = 1 + 0.6 * np.sin(2 * np.pi * np.arange(steps) * HOURS_PER_STEP / (365 * 24))
    storms = (random.uniform(size=(steps, 1)) < 0.06) * random.exponential(4.0, (steps, 1))
    showers = (random.uniform(size=(steps, len(GAUGES))) < 0.05) * random.exponential(2.0, (steps, len(GAUGES)))
    rain = (storms * random.uniform(0.5, 1.5, (steps, len(GAUGES))) + showers) * season[:, np.newaxis]
    own = 0.05 + _held_back(rain, np.array(_MEMORY)) * _CATCHMENT
    flows: dict[str, np.ndarray] = {}
    for gauge, (name, upstream) in enumerate(_UPSTREAM.items()):
        flows[name] = own[:, gauge] + sum(
            _held_back(np.concatenate([np.full(travel, flows[above][0]), flows[above][:-travel]]), _RIVER_MEMORY)
            for above, travel in upstream.items()
        )
    return np.stack(list(flows.values()), axis=1)


def _held_back(inflow: np.ndarray, memory: np.ndarray | float) -> np.ndarray:
    """Outflow of a store that keeps the share `memory` of its water in every step; along the first axis."""
    outflow, level = np.empty_like(inflow), inflow[0]
    for step, arriving in enumerate(inflow):
        level = memory * level + (1 - memory) * arriving
        outflow[step] = level
    return outflow


def _works(random: np.random.RandomState, steps: int) -> np.ndarray:
    """(steps, gauges) False during outages, which begin at random and last for `_OUTAGE` steps on average."""
    out = np.array(_OUT)
    ends = 1 / _OUTAGE
    begins = ends * out / (1 - out)
    draws, works = random.uniform(size=(steps, len(GAUGES))), np.ones((steps, len(GAUGES)), bool)
    for step in range(1, steps):
        works[step] = np.where(works[step - 1], draws[step] >= begins, draws[step] < ends)
    return works
