"""A frozen network to use: raw rows in, exact outputs out; its classes, layers and projects."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax import scores
from hgqjax.data import Scaler
from hgqjax.data.inputs import InputPart, from_json, of_model
from hgqjax.description import ModelDescription
from hgqjax.description import wraps as wraps_
from hgqjax.description.operations import Linear
from hgqjax.export import backends, ports
from hgqjax.interop.models import open_model
from hgqjax.layers import row_arrays


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network:
    """What `hgqjax.load` gives: a model description with the scaler that its rows went through in training.

    Rows are raw, in the units of the file that the network was trained on: an array or lists of shape (rows, \\*shape), integers too; a
    single row of shape `shape`; or columns by name, as a dict or a data frame has them. A network of several inputs takes a tuple of
    these, a dict of them by the names of the inputs, or rows of its whole data set. The firmware takes scaled rows, `scale(rows)`.

    >>> import numpy as np, tempfile
    >>> from hgqjax.description import operations as o
    >>> two = np.full((2,), 2)
    >>> x = o.Input(name="x", inputs=(), shape=(2,))
    >>> q = o.Quantize(name="q", inputs=("x",), shape=(2,), k=two // 2, i=two, f=two, rounding="RND", overflow="WRAP")
    >>> about = {"scaler": {"mean": [1.0, 1.0], "scale": [2.0, 4.0]}, "features": ["a", "b"]}
    >>> net = Network(ModelDescription(name="m", operations=(x, q), outputs=("q",), metadata=about))
    >>> net.scale([[3, 3]]).tolist(), net.predict([3, 3]).tolist(), net.predict({"b": [3], "a": [3]}).tolist()
    ([[1.0, 0.5]], [1.0, 0.5], [[1.0, 0.5]])
    """

    description: ModelDescription

    def __repr__(self) -> str:
        shapes = " and ".join(str(op.shape) for op in self.description.inputs)
        return f"Network({self.description.name!r}, rows of shape {shapes}, classes {list(self.classes)})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs; none of a network that gives numbers, or whose file does not say."""
        return tuple(self.description.metadata.get("classes", ()))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the last axis of a row; none where the model does not say."""
        return tuple(self.description.metadata.get("features", ()))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the outputs: of the classes, else of the targets, else y0, y1, ..."""
        size = sum(int(np.prod(self.description[name].shape)) for name in self.description.outputs)
        for names in (self.classes, tuple(self.description.metadata.get("targets", ()))):
            if len(names) == size:
                return names
        return tuple(f"y{n}" for n in range(size))

    @property
    def scaler(self) -> Scaler | None:
        """Takes raw rows to those of the firmware; None of a file of another tool, whose rows are taken as they are."""
        about = self.description.metadata.get("scaler")
        return None if about is None else Scaler(np.asarray(about["mean"]), np.asarray(about["scale"]))

    @property
    def inputs(self) -> tuple[InputPart, ...]:
        """Of a network with several inputs their names, shapes, and where their elements lie in a row of its data set; else none."""
        return from_json(self.description.metadata.get("inputs", ()))

    @property
    def layers(self) -> dict[str, Linear]:
        """The operations with weights by name: ``layers[name].kernel`` holds integers and f, the value is ``integers * 2**-f``."""
        return {op.name: op for op in self.description.operations if isinstance(op, Linear)}

    def scale(self, rows: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Raw rows as the firmware and `ModelDescription.evaluate` take them: float32, (rows, \\*shape); a tuple of several inputs.

        Raises: ValueError, one sentence, where the rows are not what the network takes.
        """
        return self._scaled(rows)[0]

    def predict(self, rows: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Exact outputs, as the hardware gives them, float64: (rows, outputs), or (outputs,) of a single row.

        Of a classification these are logits, in the order of `classes`; `classify` names the greatest. Raises: as `scale`.
        """
        x, single = self._scaled(rows)
        y = self.description.evaluate(x)
        if not single:
            return y
        return tuple(part[0] for part in y) if isinstance(y, tuple) else y[0]

    def classify(self, rows: Any) -> np.ndarray | str:
        """Names of the classes that rows are taken for: an array (rows,), or one name of a single row.

        That is the class with the greatest output, the first of equal ones; with one logit the second class where it is above 0.

        Raises: ValueError where the network has no classes; else as `scale`.
        """
        if not self.classes:
            raise ValueError(f"network {self.description.name!r} has no classes; predict gives its outputs")
        score = scores.of_model(self.description.metadata) or scores.Accuracy()
        outputs = self.predict(rows)
        assert isinstance(outputs, np.ndarray), "a network of classes has one output"
        best = score.guess(outputs)
        return str(self.classes[int(best)]) if best.ndim == 0 else np.array(self.classes)[best]

    def values(self, rows: Any) -> dict[str, np.ndarray]:
        """Exact values of each operation for raw rows, by its name, (rows, \\*shape): what a simulation of the hardware must show."""
        model, (x, _) = self.description, self._scaled(rows)
        inputs = {op.name for op in model.inputs}
        whole = {name: words for name, words in model.integers(x).items() if name not in inputs}
        return {name: np.ldexp(words.astype(np.float64), -model.grids[name].f.astype(np.int64)) for name, words in whole.items()}

    def beyond(self, rows: Any) -> wraps_.Wraps:
        """Where raw rows leave the calibrated ranges, and wrap around in the firmware, and how often."""
        return wraps_.wraps(self.description, self.scale(rows))

    def export(self, output: str | Path, *, headroom: int = 0, raw_inputs: bool = False, **settings: Any) -> Any:
        """A verified project in the new folder `output`: ``backend="Vitis"`` (default), "Vivado", "verilog" or "vhdl".

        `headroom` is a number of further integer bits, `raw_inputs` puts the scaling into the project: see `hgqjax.export.ports`.

        Further settings are those of `hgqjax.export.to_hls4ml` and `to_rtl`, whose errors it raises.
        """
        description = ports.widened(self.description, headroom)
        return backends.export(ports.with_raw_inputs(description) if raw_inputs else description, Path(output), settings)

    def _scaled(self, rows: Any) -> tuple[Any, bool]:
        """Scaled rows, and whether it was a single one."""
        inputs, named = self.description.inputs, self.inputs
        if named and not (isinstance(rows, tuple) and len(rows) == len(inputs)):
            if isinstance(rows, Mapping) and {part.name for part in named} <= set(rows):
                return self._scaled(tuple(rows[part.name] for part in named))
            whole, single = self._array(rows, self.scaler.mean.shape if self.scaler else (), self.scaler)
            return of_model(named, whole), single
        if len(inputs) != 1:
            if not isinstance(rows, tuple) or len(rows) != len(inputs):
                shapes = ", ".join(str(op.shape) for op in inputs)
                raise ValueError(f"network {self.description.name!r} takes a tuple of {len(inputs)} arrays of rows, of shapes {shapes}")
            scalers = [Scaler(part.of_row(self.scaler.mean), part.of_row(self.scaler.scale)) for part in named] if self.scaler else []
            scalers = scalers or [None] * len(inputs)
            parts = [self._array(part, op.shape, scaler) for part, op, scaler in zip(rows, inputs, scalers, strict=True)]
            return row_arrays(tuple(x for x, _ in parts)), all(single for _, single in parts)
        return self._array(rows, inputs[0].shape, self.scaler)

    def _array(self, rows: Any, shape: tuple[int, ...], scaler: Scaler | None) -> tuple[np.ndarray, bool]:
        if isinstance(rows, Mapping) or hasattr(rows, "columns"):
            rows = self._by_name(rows)
        try:
            x = np.asarray(rows)
        except ValueError as error:
            raise ValueError(f"rows cannot be made an array of shape (rows, {_listed(shape)}): {error}") from None
        if x.dtype.kind not in "biuf":
            raise ValueError(f"rows are of type {x.dtype}; numbers are needed")
        if single := x.shape == shape:
            x = x[None]
        if x.shape[1:] != shape:
            names = f": {', '.join(self.features)}" if len(shape) == 1 and len(self.features) == shape[0] else ""
            raise ValueError(
                f"rows have shape {x.shape}; this network takes (rows, {_listed(shape)}), or one row of {_listed(shape)}{names}"
            )
        return (x.astype(np.float32) if scaler is None else scaler(x)), single

    def _by_name(self, rows: Any) -> np.ndarray:
        """Columns as an array, in the order of the features."""
        names = list(rows) if isinstance(rows, Mapping) else list(rows.columns)
        missing = [name for name in self.features if name not in names]
        if missing or not self.features:
            needed = ", ".join(self.features) or "an array, as this network does not name its features"
            raise ValueError(f"rows have the columns {', '.join(map(str, names))}; this network needs {needed}")
        return np.stack([np.asarray(rows[name]) for name in self.features], axis=-1)


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def load(path: str | os.PathLike[str]) -> Network:
    """The network of a folder ``results/.../models/p03``, or of a file of another tool that `hgqjax.interop` reads.

    Raises: DescriptionError, one sentence, where there is none.
    """
    return Network(open_model(Path(path)))
