"""Which number predicts LUTs best: EBOPs, predicted LUTs or the compiler's adder-graph cost, against synthesis by Yosys."""

import dataclasses
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
import polars as pl
from flax import nnx

from hgqjax import export, interop, layers, resources, synth
from hgqjax.files import write_atomically
from hgqjax.quantizers import Kbi, Kif


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which networks."""

    kind: Literal["dense", "tables"] = "dense"
    """Of the random networks: dense layers, or layers of tables."""
    networks: int = 32
    """Random networks, of which every second one fits the factor of each predictor."""
    runs: tuple[Path, ...] = ()
    """Run folders that `hgqjax synth` was run on: the points of their fronts are held out, too."""
    files: tuple[Path, ...] = ()
    """Networks of HGQ2 (.keras), held out."""
    output: Path = Path("results/lut_models")
    """Synthesis and tables; what is there already is not done again."""
    jobs: int | None = None
    """Designs at a time, by default one for each core."""


PREDICTORS = ("EBOPs (hgq2)", "EBOPs (paper_v1)", "Luts", "adder graph (alkaid)")


class RandomNetwork(layers.Module):
    """Dense layers with random sizes, sparsity and widths."""

    def __init__(self, rng: np.random.Generator):
        depth = int(rng.integers(1, 4))
        sizes = [int(n) for n in rng.choice([8, 12, 16, 24], depth)] + [int(rng.integers(3, 8))]
        density, bits = rng.uniform(0.15, 1.0), rng.uniform(1.0, 5.0, 2)
        weight, rngs = Kif(b0=float(bits[0])), nnx.Rngs(int(rng.integers(2**31)))
        parts = []
        for n, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
            mask = rng.random((n_in, n_out)) < density
            mask[rng.integers(n_in)] = True
            quantizers = {"kernel_quantizer": weight, "bias_quantizer": weight, "input_quantizer": Kif(f0=float(bits[1]))}
            activation = "relu" if n < depth - 1 else None
            layer = layers.Dense(n_in, n_out, mask=mask.astype(int), activation=activation, rngs=rngs, **quantizers)
            layer.kernel[...] = jnp.asarray(rng.laplace(0, n_in**-0.5, (n_in, n_out)), jnp.float32)
            layer.bias[...] = jnp.asarray(rng.normal(0, 0.2, n_out), jnp.float32)
            parts.append(layer)
        self.layers, self.sizes = nnx.List(parts), tuple(sizes)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class RandomTables(layers.Module):
    """One or two layers of tables with random sizes, functions and widths of keys and words."""

    def __init__(self, rng: np.random.Generator):
        sizes = [int(n) for n in (rng.integers(4, 11), *rng.integers(3, 6, rng.integers(1, 3)))]
        rngs, edge = nnx.Rngs(int(rng.integers(2**31))), (layers.EdgeMlp(hidden=3), layers.EdgeSpline(intervals=4))[rng.integers(2)]
        self.sizes, self.layers = tuple(sizes), nnx.List()
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            keys, words = Kif(f0=float(rng.uniform(0, 4)), rounding="TRN"), Kbi(b0=float(rng.uniform(1, 6)), overflow="SAT_SYM")
            self.layers.append(layers.LutDense(n_in, n_out, rngs=rngs, function=edge, input_quantizer=keys, output_quantizer=words))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def random_tables(seed: int) -> export.ModelDescription:
    """A network of random tables; keys and words of single edges have some bits more or less than the layer's, and some none."""
    rng = np.random.default_rng(seed)
    model = RandomTables(rng)
    rows = rng.normal(size=(400, model.sizes[0])).astype(np.float32)
    layers.adapt(model, jnp.asarray(rows))
    for layer in model.layers:
        for quantizer, name in ((layer.input_quantizer, "f"), (layer.output_quantizer, "b")):
            width = getattr(quantizer, name)
            width[...] = jnp.maximum(width[...] + jnp.asarray(1.5 * rng.normal(size=width[...].shape), jnp.float32), -2.0)
    layers.clip_widths(model)
    return export.describe(model, rows, name=f"tables_{seed:02d}")


def random_description(seed: int) -> export.ModelDescription:
    """A network of random structure, weights and formats: those of single weights and inputs are a bit more or less than the layer's."""
    rng = np.random.default_rng(seed)
    model = RandomNetwork(rng)
    rows = rng.normal(size=(400, model.sizes[0])).astype(np.float32)
    layers.adapt(model, jnp.asarray(rows))
    for _, layer in model.named(layers.Dense):
        for quantizer in (layer.kernel_quantizer, layer.input_quantizer):
            quantizer.f[...] = quantizer.f[...] + jnp.asarray(rng.normal(size=quantizer.f[...].shape), jnp.float32)
    return export.describe(model, rows, name=f"random_{seed:02d}")


def errors(predicted: np.ndarray, luts: np.ndarray) -> tuple[float, float, float]:
    """R^2, median and greatest relative error."""
    relative = abs(predicted / luts - 1)
    residual = ((predicted - luts) ** 2).sum() / ((luts - luts.mean()) ** 2).sum()
    return 1 - residual, float(np.median(relative)), float(relative.max())


def run(config: Config) -> None:
    """Synthesises the networks and prints the table, which goes to `output` with the numbers of each network."""
    make = random_description if config.kind == "dense" else random_tables
    described = map(make, range(config.networks))
    designs: dict[str, export.ModelDescription] = {description.name: description for description in described}
    designs |= {path.stem: interop.load_hgq2(path) for path in config.files}
    found = synth.synthesize_many(designs, config.output, jobs=config.jobs, progress=True)
    kinds = ["released" if n >= config.networks else "random" if n % 2 else "fitted" for n in range(len(designs))]
    rows = [_numbers(row, kind, designs[row.point]) for row, kind in zip(found, kinds, strict=True) if row.done]
    for row in found:
        if not row.done:
            print(f"{row.point}: {row.status}: {row.error}")
    for folder in config.runs:
        done = [row for row in synth.record.read(folder) if row.done and row.tool == "yosys"]
        if not done:
            raise ValueError(f"{folder} has no networks that were synthesised with Yosys; run hgqjax synth {folder} first")
        kind = f"trained: {folder.resolve().parent.name}"
        rows += [_numbers(row, kind, export.ModelDescription.load(folder / "models" / row.point)) for row in done]
    text = "\n".join(_table(rows)) + "\n"
    print(text)
    write_atomically(config.output / "networks.csv", pl.DataFrame(rows).write_csv())
    write_atomically(config.output / "table.md", text)


def _numbers(row: synth.Synthesis, kind: str, description: export.ModelDescription) -> dict:
    predicted = (row.ebops, row.ebops_paper_v1, float(resources.Luts()(description).total), row.adder_cost)
    return {"network": row.point, "kind": kind, "lut": row.lut, "ff": row.ff} | dict(zip(PREDICTORS, predicted, strict=True))


def _table(rows: list[dict]) -> list[str]:
    """Markdown: a line a predictor and kind of networks; one factor each, the least relative squares of the fitted networks."""
    fitted = [row for row in rows if row["kind"] == "fitted"]
    lines = ["| predictor | factor | networks | number | R^2 | median error | greatest error |", "|---|---:|---|---:|---:|---:|---:|"]
    for label in PREDICTORS:
        if not any(row[label] for row in rows):
            continue  # tables are no multiplications
        ratio = np.array([row[label] / row["lut"] for row in fitted])
        factor = ratio.sum() / (ratio**2).sum()
        for kind in dict.fromkeys(row["kind"] for row in rows if row["kind"] != "fitted"):
            part = [row for row in rows if row["kind"] == kind]
            predicted, luts = (np.array([row[key] for row in part], float) for key in (label, "lut"))
            r2, median, greatest = errors(factor * predicted, luts)
            lines.append(f"| {label} | {factor:.3f} | {kind} | {len(part)} | {r2:.3f} | {median:.1%} | {greatest:.1%} |")
    return lines
