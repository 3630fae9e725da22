"""What a sweep shows while it runs: a bar of checks, and the numbers of its members."""

from hgqjax import training
from hgqjax.training.objective import Objective


def cells(sweep: training.Swept, members: int, objective: Objective) -> str:
    """Loss, accuracy or resolution, and cost of every member at the last check."""
    name, form, sign = ("accuracy", ".1%", 1) if objective.task == "classification" else ("resolution", ".3g", -1)
    cells = [
        f"{row['train_loss']:.3f} {sign * row['val_score']:{form}} {_short(row['cost'])}" if row["member"] not in sweep.failed else "failed"
        for row in sweep.history[-members:]
    ]
    return f"loss, {name}, {objective.cost.unit}: " + " | ".join(cells) if cells else "compiling"


def _short(cost: float) -> str:
    """Thousands of EBOPs or LUTs; bits per weight as they are."""
    return f"{cost / 1000:.1f}k" if cost >= 100 else f"{cost:.3g}"


class Progress:
    """A bar of checks; silent where `shown` is False."""

    def __init__(self, total: int, shown: bool):
        self.total, self.shown, self.bar, self.done = total, shown, None, -1

    def __enter__(self):
        if self.shown:
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit="check", dynamic_ncols=True)
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, text: str) -> bool:
        """Shows that so many checks are done; whether that is news."""
        news, self.done = done != self.done, done
        if self.bar is not None and news:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.bar.n)
        return news

    def say(self, text: str) -> None:
        """Prints a line."""
        if self.shown:
            print(text, flush=True)
