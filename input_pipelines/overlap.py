"""Examples that are in two splits: said where the splits of one source are the same, refused across sources."""

import itertools
from collections.abc import Mapping

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from trainer.common.errors import ConfigError

_USES = {TRAIN: "to train on", VALIDATION: "to validate on"}


def notes(sources: Mapping[str, SourceConfig], fingerprints: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Lines about sources whose splits hold the same examples, as whoever tries a model on a few of them wants it.

    Args:
      sources: the configuration's key of a source → the source.
      fingerprints: the same key → split → its fingerprint.

    Raises:
      ConfigError: the examples of a split are those of another split of another source.
    """
    strict = [field for field, source in sources.items() if not source.may_overlap]
    found = [
        (field, split) for field in strict for split in sorted(fingerprints[field], key=lambda each: each == TRAIN)
    ]
    said = []
    for pair in itertools.combinations(found, 2):
        (field, split), (other, there) = sorted(pair, key=lambda each: each[1] == TRAIN)
        digest = fingerprints[field][split]
        if digest != fingerprints[other][there] or split == there:
            continue
        if field == other:
            uses = f"the examples {_use(split)} are those {_use(there)}"
            said.append(f"{field}: {uses}; if that is meant, set {_key(field)}")
        elif digest != fingerprints[field][TRAIN]:  # which is said already
            whose = "training" if there == TRAIN else there
            reason = f"holds the examples of the {whose} split of {other}; if that is meant, set {_key(field)}"
            raise ConfigError(f"{field}.splits.{split}", ConfigError.ABSENT, reason)
    return tuple(said)


def _use(split: str) -> str:
    return _USES.get(split, f"of {split}")


def _key(field: str) -> str:
    return f"{field}.may_overlap=True"
