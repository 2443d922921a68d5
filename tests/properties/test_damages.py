"""Single damages of a run's files: the same bits, or one line that names the file."""

from tests.properties import damages


def test_no_damage_is_silent(tmp_path):
    found = list(damages.strikes(tmp_path, 30, seed=17))
    assert [(damage, wrong) for damage, _, wrong in found if wrong] == []
    assert {outcome for _, outcome, _ in found} >= {"ended", "ended, named", "refused, named"}
