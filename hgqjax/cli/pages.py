"""The commands `hgqjax report`, `hgqjax table` and `hgqjax compare`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from hgqjax.cli import models as models_


def report(run: Positional[Path], *, published: str = "same", points: tuple[str, ...] = ()) -> None:
    """Make the figures and report.html of a run folder again, of an unfinished one too. The page is one file that opens offline.

    Args:
        run: the run folder, results/<experiment>/<time>-<hash>.
        published: whose results stand in the figure of the front: same (those on the same data set), none, or jets, svhn, muon, plf: all of
            that benchmark, also those on other rows, which do not compare.
        points: whose widths are drawn, and of the best one among them confusion matrix, ROC or residuals; by default the cheapest, the
            middle and the dearest, and the best of all.
    """
    from hgqjax.reports.page import report
    from hgqjax.runs import folders

    with folders.hold(run):
        print(report(run, None if published == "none" else published, points or None))


def table(
    name: Positional[str],
    *,
    runs: tuple[Path, ...] = (),
    models: tuple[Path, ...] = (),
    data: str | None = None,
    data_name: str | None = None,
    window: float | None = None,
    format: Literal["markdown", "csv", "latex"] = "markdown",
    output: Path | None = None,
) -> None:
    """Print a table of the HGQ paper, every published number with its source, and beside it what was measured here.

    Args:
        name: jets, svhn, muon, plf (jets by their particles), or artifact (the networks that the authors released).
        runs: run folders whose points are rows, each beside the nearest published one, with its difference on the same data. The
            caption says the rule.
        models: model descriptions, .keras, .h5 or .onnx files, or folders of them, to be measured on the rows of --data.
        data: a data set ("jets", "openml", ...) or a file: all its rows.
        data_name: what the rows of a file are, e.g. "OpenML 42468": so the table calls them, and finds published rows on the same.
        window: of a resolution: residuals of this size and more are outliers, where the model itself does not say; of published
            ones 30 mrad.
        format: markdown, csv (all columns, numbers as they are) or latex.
        output: a file instead of standard output.
    """
    from hgqjax.reports import paper_table

    paper_table.check(name, output)
    paper_table.write(paper_table.build(name, runs, _measured(models, data, data_name, window)).text(format), output)


def compare(
    runs: Positional[tuple[Path, ...]],
    *,
    output: Path = Path("compare.png"),
    at: tuple[float, ...] = (),
    reference: tuple[float, float] | None = None,
) -> None:
    """Lay the fronts of runs over each other: a figure, hypervolumes, scores at fixed costs, spread over seeds, differing fields.

    Args:
        runs: two or more run folders of one task, data set and cost.
        output: the figure: .png, .svg or .pdf.
        at: costs (EBOPs, or LUTs if these are the objective's cost) at which scores are compared; by default up to four.
        reference: reference point of the hypervolume: cost, and accuracy in % or resolution; by default
            outside of all points: twice the largest cost, a tenth of the span below the worst score.
    """
    from hgqjax.reports import markup
    from hgqjax.reports.compare import compare

    markup.say(compare(runs, output, at, reference))


def _measured(models: tuple[Path, ...], data: str | None, data_name: str | None, window: float | None) -> Iterator:
    """Rows of a table: each model on all rows of `data`."""
    from hgqjax import resources
    from hgqjax.data import NAMES
    from hgqjax.evaluation.rows import RowReader
    from hgqjax.interop.models import open_model
    from hgqjax.reports import paper_table

    if bool(models) != (data is not None) or ((data_name, window) != (None, None) and data is None):
        raise ValueError("--models and --data go together: models to measure, and the rows to measure them on, which --data-name names")
    if data_name is not None and data in NAMES:
        raise ValueError(f"--data-name names the rows of a file, but --data {data} is a data set that has its name; leave it out")
    reader = RowReader()
    for path in _model_paths(models):
        assert data is not None, "models come with data"
        description = open_model(path)
        here = models_.measure(path, description, data, reader, window)
        name = f"{path.parent.parent.name} {path.name}" if path.parent.name == "models" else path.stem
        yield paper_table.of_model(name, data_name or reader.name(data), here, float(resources.ebops(description).total))


def _model_paths(paths: tuple[Path, ...]) -> list[Path]:
    """The models that are given, and those in folders of models; ValueError for a path with none."""
    from hgqjax.interop.models import MODELS, instead_of_model, is_model

    found = []
    for path in paths:
        models = [p for p in ([path, *sorted(path.iterdir())] if path.is_dir() else [path]) if is_model(p)]
        if not models:
            raise ValueError(instead_of_model(path, f"{MODELS}, or a folder of such,"))
        found += models
    return found
