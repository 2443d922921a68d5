"""Outcomes of checks, on one worker and on all of them. Needs no TensorFlow."""

import dataclasses
import enum
import json
from collections.abc import Mapping


class Status(enum.StrEnum):
    """The result of a check; the first word of its line."""

    PASS = "pass"
    WARNING = "warning"
    SKIPPED = "skipped"
    FAILED = "failed"


_WORST_FIRST = (Status.FAILED, Status.WARNING, Status.PASS, Status.SKIPPED)


@dataclasses.dataclass(frozen=True)
class CheckOutcome:
    """The outcome of a check.

    Attributes:
      status: how it ended.
      text: why, with the measured numbers; one line.
      same: a text that must be the same on every worker.
    """

    status: Status
    text: str
    same: str = ""

    def to_json(self) -> str:
        """Returns the outcome as JSON, for the other workers."""
        return json.dumps(dataclasses.asdict(self))


def of_json(text: str) -> CheckOutcome:
    """Reads the outcome that `to_json` wrote."""
    fields = json.loads(text)
    return CheckOutcome(**fields | {"status": Status(fields["status"])})


def merged(by_rank: Mapping[int, CheckOutcome]) -> CheckOutcome:
    """Returns one outcome for all workers: the worst of theirs, and whose it is where there are several workers."""
    worst = min((outcome.status for outcome in by_rank.values()), key=_WORST_FIRST.index)
    if worst is not Status.FAILED and len({outcome.same for outcome in by_rank.values()}) > 1:
        differ = {rank: outcome.same or "nothing" for rank, outcome in by_rank.items()}
        return CheckOutcome(Status.FAILED, f"the workers differ; {_by_worker(differ)}")
    texts = {rank: outcome.text for rank, outcome in by_rank.items() if outcome.status is worst}
    if worst in (Status.PASS, Status.SKIPPED) or len(by_rank) == 1:
        return CheckOutcome(worst, texts[min(texts)])
    return CheckOutcome(worst, _by_worker(texts))


def _by_worker(texts: Mapping[int, str]) -> str:
    """`workers 0, 2: text; worker 1: another text`."""
    ranks: dict[str, list[str]] = {}
    for rank in sorted(texts):
        ranks.setdefault(texts[rank], []).append(str(rank))
    return "; ".join(f"worker{'s' * (len(own) > 1)} {', '.join(own)}: {text}" for text, own in ranks.items())
