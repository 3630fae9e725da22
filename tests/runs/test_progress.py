"""What a run shows: phases by name, an estimate that leaves compilation out."""

import io

from hgqjax.runs.progress import Progress


def test_phases_are_named_and_compilation_does_not_count(monkeypatch, capsys):
    import tqdm

    now, shown = [0.0], io.StringIO()

    class Bar(tqdm.tqdm):
        def __init__(self, **settings):
            super().__init__(file=shown, mininterval=0, ncols=120, **settings)
            self._time = lambda: now[0]
            self.start_t = self.last_print_t = 0.0

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    with Progress(True) as bar:
        bar.phase("train", 4, "check")
        bar.compiling()
        assert "compile:   0%" in shown.getvalue()
        now[0] = 100.0  # what was compiled took so long
        bar.going()
        for done in (1, 2):
            now[0] += 1.0
            assert bar(done, f"step {done}")
        assert not bar(2) and bar.bar.format_dict["elapsed"] == 2.0
        assert "train:  50%" in shown.getvalue() and "00:02<00:02" in shown.getvalue().splitlines()[-1].split("\r")[-1]
        bar.phase("freeze", 1, "point")
        bar.say("p00: a point")
        bar(bar.done + 1)
    assert "freeze: 100%" in shown.getvalue() and capsys.readouterr().out == "p00: a point\n"


def test_a_silent_one_shows_nothing(capsys):
    with Progress(False) as bar:
        bar.phase("train", 2, "check")
        bar.compiling()
        bar.going()
        assert bar(1) and not bar(1)
        bar.say("nothing")
    assert capsys.readouterr() == ("", "")
