"""The names of new runs say when, which configuration and which method."""

import re

from tests import problems
from trainer.output import new_names, workdir


def test_a_new_directory_is_named_for_configuration_and_method(tmp_path):
    config = problems.config(combine__name="pcgrad")
    assert new_names.label("digits", config) == "digits_pcgrad"
    assert new_names.label("", config) == "pcgrad"
    assert new_names.label("my data*[1]", problems.config()) == "my-data-1-_weighted"
    runs = [workdir.create(None, config, tmp_path, "digits_pcgrad") for _ in range(2)]
    for run, end in zip(runs, ("", r"(_2)?"), strict=True):
        run.release()
        assert re.fullmatch(rf"runs/\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_digits_pcgrad{end}", str(run.shown))
    assert len({run.path for run in runs}) == 2
