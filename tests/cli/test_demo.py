"""The command `hgqjax demo`, short."""

import pytest

from hgqjax import cli


@pytest.mark.slow
def test_a_short_demo_has_two_verified_projects(tmp_path, capsys):
    assert cli.main(["demo", "--results", str(tmp_path), "--rows", "5000", "--epochs", "4"]) == 0
    said = capsys.readouterr().out
    (run,) = (tmp_path / "demo").iterdir()
    assert said.count("words on") == 2 and len(list((run / "projects").iterdir())) == 2 and (run / "report.html").is_file()


def test_a_number_that_is_refused_leaves_nothing(tmp_path, capsys):
    assert cli.main(["demo", "--results", str(tmp_path), "--epochs", "3"]) == 2
    assert "epochs is 3, which epochs_per_check, 2, does not divide" in capsys.readouterr().err and not list(tmp_path.iterdir())
