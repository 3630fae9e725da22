"""What a sweep shows while it runs: the phase that it is in with a bar, and the numbers of its members."""

from hgqjax import training
from hgqjax.training.objective import Objective


def cells(sweep: training.SweepResult, members: int, objective: Objective) -> str:
    """Loss, score and cost of every member at the last check."""
    score = objective.score
    cells = [
        f"{row['train_loss']:.3f} {score.brief(row['val_score'])} {_short(row['cost'])}" if row["member"] not in sweep.failed else "failed"
        for row in sweep.history[-members:]
    ]
    return f"loss, {score.name}, {objective.cost.unit}: " + " | ".join(cells) if cells else ""


def _short(cost: float) -> str:
    """Thousands of EBOPs or LUTs; bits per weight as they are."""
    return f"{cost / 1000:.1f}k" if cost >= 100 else f"{cost:.3g}"


class Progress:
    """A bar for each phase of a run, one after the other; silent where `shown` is False."""

    def __init__(self, shown: bool):
        self.shown, self.bar, self.done, self.name = shown, None, -1, ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begins the phase `name` of so many steps."""
        self._close()
        self.done, self.name = 0, name
        if self.shown:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True)

    def compiling(self) -> None:
        """Says that programs are compiled, until `going`."""
        if self.bar is not None:
            self.bar.set_description("compile")

    def going(self) -> None:
        """The phase goes on; the time since the last step does not count for the estimate of what is left."""
        if self.bar is not None:
            self.bar.set_description(self.name, refresh=False)
            self.bar.unpause()

    def __call__(self, done: int, text: str = "") -> bool:
        """Shows that so many steps are done; whether that is news."""
        news, self.done = done != self.done, done
        if self.bar is not None and news:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.bar.n)
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
