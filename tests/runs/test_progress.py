"""What a run shows: phases by name, a line for each member, an estimate that leaves compilation out."""

import io

import pytest

from hgqjax.runs import progress
from hgqjax.runs.progress import Progress


@pytest.fixture
def terminal(monkeypatch):
    """A screen of 24 lines, and its clock; what tqdm draws on it."""
    import tqdm

    now, shown = [0.0], io.StringIO()

    class Bar(tqdm.tqdm):
        def __init__(self, **settings):
            super().__init__(file=shown, mininterval=0, **({"ncols": 120} | {k: v for k, v in settings.items() if k != "dynamic_ncols"}))
            self._time = lambda: now[0]
            self.start_t = self.last_print_t = 0.0

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(progress, "_on_terminal", lambda: True)
    return now, shown


def test_phases_are_named_and_compilation_does_not_count(terminal, capsys):
    now, shown = terminal
    with Progress(True) as bar:
        bar.phase("train", 4, "check")
        bar.compiling()
        assert "compile:   0%" in shown.getvalue()
        now[0] = 100.0  # what was compiled took so long
        bar.going()
        for done in (1, 2):
            now[0] += 1.0
            assert bar(done)
        assert not bar(2) and bar.bar.bar.format_dict["elapsed"] == 2.0
        assert "train:  50%" in shown.getvalue() and "00:02<00:02" in shown.getvalue().splitlines()[-1].split("\r")[-1]
        bar.phase("freeze", 1, "point")
        bar.say("p00: a point")
        bar(bar.done + 1)
    assert "freeze: 100%" in shown.getvalue() and capsys.readouterr().out == "p00: a point\n"


@pytest.mark.parametrize(("members", "room"), [(3, True), (40, False)])
def test_each_member_has_a_line_where_there_is_room(terminal, members, room):
    _, shown = terminal
    with Progress(True) as bar:
        bar.phase("train", 4, "check")
        bar(1, [f"beta {n}: fine" for n in range(members)])
        assert [f"  beta {n}: fine" in shown.getvalue() for n in range(members)] == members * [room]


def test_without_a_terminal_there_are_few_lines(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(True) as bar:
        bar.phase("train", 100, "check")
        bar.compiling()
        now[0] = 50.0
        bar.going()
        for done in range(1, 101):
            now[0] += 1.0
            bar(done, ["beta 1: fine"])
    out = capsys.readouterr()
    lines = out.err.splitlines()
    assert lines[:2] == ["train: 0 of 100 checks", "compile ..."] and not out.out
    assert lines[2:4] == ["train: 1 of 100 checks, 1 s, about 99 s left", "  beta 1: fine"]  # the first after so long
    assert lines[4] == "train: 31 of 100 checks, 31 s, about 69 s left"
    assert lines[-2] == "train: 100 of 100 checks, 100 s, about 0 s left" and len(lines) == 2 + 5 * 2 and "\r" not in out.err


def test_a_silent_one_shows_nothing(capsys):
    with Progress(False) as bar:
        bar.phase("train", 2, "check")
        bar.compiling()
        bar.going()
        assert bar(1) and not bar(1)
        bar.say("nothing")
    assert capsys.readouterr() == ("", "")
