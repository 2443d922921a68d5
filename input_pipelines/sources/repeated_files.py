"""Refuses files that would be read twice: by two names, as copies, compressed beside plain, as backups.

Two splits of a file each that are the same are no mistake of names, and are left to `overlap`.
"""

import collections
import filecmp
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence

from input_pipelines.sources import file_samples
from trainer.common.errors import ConfigError

_ENDINGS = re.compile(r"(~|\.(bak|backup|old|orig|gz|gzip|zz|zlib|bz2|xz|zst|zip))+$", re.IGNORECASE)
_SHOWN = "is the same file as", "holds the same as", "is the same, compressed or as a backup, as"


def refuse(files: Mapping[str, Sequence[str]], field: str, *, parted: bool = False) -> None:
    """Raises ConfigError where two files of a source, in one split or in two, are one or hold the same.

    Unless they are all that these two splits have.

    Args:
      files: split → its files.
      field: the configuration's key of the source.
      parted: whether parts of the training split are held out, so that no other split is the same as a whole.
    """
    splits = [(split, path) for split, paths in files.items() for path in paths]
    paths = [path for _, path in splits]
    for same, shown in zip((_same_files, _same_contents, _same_names), _SHOWN, strict=True):
        for first, second in same(paths):
            (split, path), (before, other) = splits[second], splits[first]
            if split != before and len(files[split]) == len(files[before]) == 1 and not parted:
                continue
            at = f"{other} of the {before} split" if split != before else other
            reason = f"{shown} {at}; name each once in splits, or set {field}.may_overlap=True"
            raise ConfigError(f"{field}.splits.{split}", path, reason)


def refuse_records(ranges: Mapping[str, Sequence[tuple[str, int, int]]], field: str) -> None:
    """Raises ConfigError where a record is in two splits that are not the same.

    Args:
      ranges: split → the file, the first record and the end of each run of records that it holds.
      field: the configuration's key of the source.
    """
    for other, split in itertools.combinations(ranges, 2):
        if sorted(ranges[split]) == sorted(ranges[other]):
            continue
        for (there, start, stop), (file, first, end) in itertools.product(ranges[other], ranges[split]):
            if file == there and max(first, start) < min(end, stop):
                shared = f"records {max(first, start)} to {min(end, stop) - 1} of {file} are in the {other} split, too"
                reason = f"{shared}; if that is meant, set {field}.may_overlap=True"
                raise ConfigError(f"{field}.splits.{split}", ConfigError.ABSENT, reason)


def _same_files(paths: Sequence[str]) -> list[tuple[int, int]]:
    return _pairs(paths, os.path.realpath)


def _same_contents(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of files that hold the same; empty ones hold nothing."""
    sizes = [os.path.getsize(path) for path in paths]
    often = {size for size, count in collections.Counter(sizes).items() if size and count > 1}
    sampled = {path for path, size in zip(paths, sizes, strict=True) if size in often}
    alike = _pairs(paths, lambda path: _digest(path) if path in sampled else None)
    return [(first, second) for first, second in alike if filecmp.cmp(paths[first], paths[second], shallow=False)]


def _same_names(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of files of one folder whose names differ in what a compressed file's or a backup's name ends in."""
    return _pairs(paths, lambda path: _ENDINGS.sub("", path))


def _pairs(paths: Sequence[str], key: Callable[[str], Hashable]) -> list[tuple[int, int]]:
    """Places of two paths of one key, the first and each later one; None is no key."""
    first: dict[Hashable, int] = {}
    keys = [(place, key(path)) for place, path in enumerate(paths)]
    return [(first[each], place) for place, each in keys if each is not None and first.setdefault(each, place) != place]


def _digest(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for sample in file_samples.samples(path):
        digest.update(sample)
    return digest.hexdigest()
