"""Commands that people are shown, as a shell reads them."""

import shlex

import pytest

from trainer.common import commands


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--config=a.py", "--workdir=runs/a", "--combine=pcgrad"], ["--config=a.py", "--combine=pcgrad"]),
        (["--workdir", "runs/a", "--config.steps", "3"], ["--config.steps", "3"]),
        (["--config.x={'name':'sgd'}", "-workdir", "--workdir"], ["--config.x={'name':'sgd'}"]),
    ],
)
def test_a_repeating_command_has_everything_but_the_directory(arguments, kept):
    assert shlex.split(commands.repeating("trainer.main", arguments)) == ["python", "-m", "trainer.main", *kept]


@pytest.mark.parametrize("word", ["a b", "it's", "{'a': 1}", "$HOME's", 'a"b', "`'`", "it's \\ !", "", "plain"])
def test_a_shell_reads_the_words(word):
    assert shlex.split(commands.joined(["x", word])) == ["x", word]
    assert commands.joined(["plain", "it's"]) == 'plain "it\'s"'
