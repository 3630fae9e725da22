"""The command `hgqjax refine`."""

from pathlib import Path

from tyro.conf import Positional


def refine(
    model: Positional[Path], *, data: str, strengths: tuple[float, ...] = (0.03, 0.06, 0.12), sweeps: int = 2, output: Path | None = None
) -> None:
    """Change words of the tables of a trained network, so that it has less loss and needs fewer LUTs: a network for each strength.

    Each network begins with the one before, and is printed with its predicted LUTs, EBOPs, and score on validation and test rows.

    Args:
        model: folder of a model description, e.g. results/.../models/p03, or a file of HGQ2 (.keras), with layers of tables.
        data: data set or file with the rows that the network was trained on, as sweep takes it; the training rows are used.
        strengths: loss of a row that all LUTs of the network's tables are worth; more gives smaller networks.
        sweeps: over all tables, for each strength.
        output: folder of the new networks, r0, r1, ...; by default the model's path, without suffix, with _refined.
    """
    import dataclasses

    from hgqjax import data as data_
    from hgqjax import resources, scores
    from hgqjax.config import from_json
    from hgqjax.evaluation import measure
    from hgqjax.files import new_folder
    from hgqjax.interop.models import open_model
    from hgqjax.refine import refine as refined

    description = open_model(model)
    about = description.metadata.get("columns")
    dataset = data_.load(data, from_json(data_.Columns, about) if about else data_.Columns())
    rows = _rows(description, dataset)
    score = scores.of_model(description.metadata) or scores.fitting(dataset.y_train)
    output = output or model.with_name(f"{model.name.removesuffix('.keras')}_refined")

    def say(name, network):
        found = [measure(network, dataset.of_model(x), y, score)["score"] for x, y in (rows["val"], rows["test"])]
        costs = f"{resources.Luts()(network).total:8.0f} LUTs predicted, {resources.ebops(network).total:8.0f} EBOPs"
        print(f"{name:14}{costs}, validation {score.cell(found[0])}, test {score.cell(found[1])}", flush=True)

    with new_folder(output) as folder:
        say("before", description)
        x, y = rows["train"]
        found = refined(description, dataset.of_model(x), y, score, strengths=strengths, weight=dataset.weight_train, sweeps=sweeps)
        for number, (strength, network) in enumerate(zip(strengths, found, strict=True)):
            say(f"strength {strength:g}", network)
            dataclasses.replace(network, name=f"{description.name}_r{number}").save(folder / f"r{number}")
    print(f"{output}: {', '.join(f'r{number}' for number in range(len(strengths)))}")


def _rows(description, dataset):
    """Training, validation and test rows, which are refused where the network takes others."""
    import numpy as np

    parts = dataset.of_model(dataset.x_train[:1])
    shapes = [part.shape[1:] for part in (parts if isinstance(parts, tuple) else (parts,))]
    if shapes != [op.shape for op in description.inputs]:
        wanted = " and ".join(str(op.shape) for op in description.inputs)
        raise ValueError(
            f"rows of {dataset.name} have shape {' and '.join(map(str, shapes))}, but model {description.name!r} takes {wanted}"
        )
    scaler = description.metadata.get("scaler")
    if scaler and not all(np.array_equal(scaler[part], getattr(dataset.scaler, part)) for part in ("mean", "scale")):
        raise ValueError(f"model {description.name!r} was trained on rows with another scaling than those of {dataset.name}")
    return {part: (getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")) for part in ("train", "val", "test")}
