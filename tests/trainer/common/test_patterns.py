"""Names chosen by patterns, and the names that they are given."""

import fnmatch

import pytest

from trainer.common import patterns


@pytest.mark.parametrize(
    ("name", "pattern", "new", "expected"),
    [
        ("old/dense/kernel", "old/*", "new/*", "new/dense/kernel"),
        ("dense/kernel", "*", "backbone/*", "backbone/dense/kernel"),
        ("a/dense_1/kernel", "*/dense_*/*", "b/*/layer_*/*", "b/a/layer_1/kernel"),
        ("dense_1/kernel", "dense_?/kernel", "last/kernel", "last/kernel"),
        ("dense_1/kernel", "dense_[!02]/*", "last/*", "last/kernel"),
        ("dense_1/kernel", "dense_[02]/*", "last/*", None),
        ("dense.1/kernel", "dense.1/*", "a.b/*", "a.b/kernel"),
        ("densex1/kernel", "dense.1/*", "a.b/*", None),
        ("dense/kernel", "dense", "new", None),
        ("dense[/kernel", "dense[/*", "new/*", "new/kernel"),
    ],
)
def test_renamed(name, pattern, new, expected):
    assert patterns.renamed(name, pattern, new) == expected
    assert (expected is not None) == fnmatch.fnmatchcase(name, pattern)
