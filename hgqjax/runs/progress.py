"""What a sweep shows while it runs: the phase that it is in, what is left of it, and the numbers of its members."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from hgqjax import training
from hgqjax.training.objective import Objective

SPARSE = 30.0
"""Seconds between two lines where there is no terminal."""


def cells(sweep: training.SweepResult, members: training.Member, seeds: Sequence[int], objective: Objective) -> list[str]:
    """A line for every member: its penalty and seed, and loss, score and cost at the last check."""
    score, lines = objective.score, []
    for row in sweep.history[-len(seeds) :]:
        if row["check"] != sweep.history[-1]["check"]:
            continue  # of a search, which trains a single network, too
        n = row["member"]
        aim = f"aims at {float(members.budget[n]):g}" if members.budget[n] else f"beta {float(members.beta[n]):.2g}"
        aim += f", seed {seeds[n]}" if len(set(seeds)) > 1 else ""
        numbers = f"loss {row['train_loss']:.3f}, {score.name} {score.brief(row['val_score'])}, {_short(row['cost'])} {objective.cost.unit}"
        lines.append(f"{aim}: {'failed' if row['member'] in sweep.failed else numbers}")
    return lines


def _short(cost: float) -> str:
    """Thousands of EBOPs or LUTs; bits per weight as they are."""
    return f"{cost / 1000:.1f}k" if cost >= 100 else f"{cost:.3g}"


def _on_terminal() -> bool:
    return sys.stderr.isatty()


class _Bar:
    """On a terminal: a bar, and below it a line for each member where there is room."""

    def __init__(self, name: str, total: int, unit: str):
        from tqdm import tqdm

        self._tqdm, self._lines = tqdm, []
        self.bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True)

    def name(self, text: str) -> None:
        self.bar.set_description(text)

    def going(self, name: str) -> None:
        self.bar.set_description(name, refresh=False)
        self.bar.unpause()

    def step(self, done: int, lines: Sequence[str]) -> None:
        self.bar.update(done - self.bar.n)
        if len(lines) > shutil.get_terminal_size().lines - 3:
            lines = ()
        while len(self._lines) < len(lines):
            self._lines.append(self._tqdm(total=0, position=len(self._lines) + 1, bar_format="  {desc}", leave=False))
        for line, text in zip(self._lines, lines, strict=False):
            line.set_description_str(text)

    def clear(self) -> None:
        for line in (*self._lines, self.bar):
            line.clear()

    def close(self) -> None:
        for line in (*reversed(self._lines), self.bar):
            line.close()


class _Lines:
    """Where there is no terminal, as in a batch job: a line when a phase begins, each `SPARSE` seconds, and when it ends."""

    def __init__(self, name: str, total: int, unit: str):
        self._name, self._total, self._unit, self._done = name, total, f"{unit}s", 0
        self._spent, self._since, self._last = 0.0, time.monotonic(), time.monotonic()
        self._print(f"{name}: 0 of {total} {self._unit}")

    def name(self, text: str) -> None:
        self._print(f"{text} ...")

    def going(self, name: str) -> None:
        self._since = time.monotonic()  # what was compiled does not count

    def step(self, done: int, lines: Sequence[str]) -> None:
        now = time.monotonic()
        self._spent, self._since, self._done = self._spent + now - self._since, now, done
        if now - self._last >= SPARSE or done == self._total:
            left = self._spent / done * (self._total - done)
            self._print(f"{self._name}: {done} of {self._total} {self._unit}, {self._spent:.0f} s, about {left:.0f} s left")
            for line in lines:
                self._print(f"  {line}")

    def clear(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(text, file=sys.stderr, flush=True)


class Progress:
    """The phases of a run, one after the other; silent where `shown` is False."""

    def __init__(self, shown: bool):
        self.shown, self.done, self.name = shown, -1, ""
        self.bar: Any = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begins the phase `name` of so many steps."""
        self._close()
        self.done, self.name = 0, name
        if self.shown:
            self.bar = (_Bar if _on_terminal() else _Lines)(name, total, unit)

    def compiling(self) -> None:
        """Says that programs are compiled, until `going`."""
        if self.bar is not None:
            self.bar.name("compile")

    def going(self) -> None:
        """The phase goes on; the time since the last step does not count for the estimate of what is left."""
        if self.bar is not None:
            self.bar.going(self.name)

    def __call__(self, done: int, lines: Sequence[str] = ()) -> bool:
        """Shows that so many steps are done, and `lines` on them where there is room; whether that is news."""
        news, self.done = done != self.done, done
        if self.bar is not None and news:
            self.bar.step(done, lines)
        return news

    def say(self, text: str) -> None:
        """Prints a line."""
        if self.bar is not None:
            self.bar.clear()
        if self.shown:
            print(text, flush=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
