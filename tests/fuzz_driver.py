"""Feeds mutated real files to every reader: ``python fuzz_driver.py FOLDER SEED COUNT MEGABYTES`` prints what was no sentence, as JSON.

A process of its own, so that a crash of a C library and a limit of memory are seen, too; FOLDER/last is the input that it died of.
"""

import contextlib
import hashlib
import io
import json
import random
import resource
import shutil
import sys
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np

from hgqjax import data, interop
from hgqjax.data import Columns, hdf5
from hgqjax.description import DescriptionError
from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.config import read_config
from hgqjax.interop.keras_file import InteropError
from hgqjax.runs.folders import Run, RunError

GOLDEN = Path(__file__).parent / "golden"
SAID = (data.DataError, DescriptionError, InteropError, ExportError, RunError)
TEXT = "text.h5"
"""Its rows of text are read in a process of its own, half a second each time: it has a turn in each tenth round."""
TOKENS = (b"\x00", b"\xff" * 8, b"\x7f" * 8, b"-1", b"99999999999999999999", b"nan", b"1e400", *(bytes([n]) for n in b",;\"\n([{'"))


def samples():
    """Contents of small real files by their names; the folder of a model is named by its description."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    table = {"a": x[:, 0], "b": x[:, 1], "weight": np.abs(x[:, 2]), "label": y}
    header, rows = ",".join(table), [",".join(map(str, row)) for row in zip(*(v.tolist() for v in table.values()), strict=True)]
    yield "t.csv", "\n".join([header, *rows]).encode()
    yield "u.csv", "\n".join(row.replace(",", ";") for row in rows).encode()
    attributes = "".join(f"@ATTRIBUTE {name} REAL\n" for name in ("a", "b", "weight")) + "@ATTRIBUTE label {0,1}\n@DATA\n"
    yield "t.arff", (attributes + "\n".join(rows)).encode()
    for name, write in (("t.npz", np.savez), ("z.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        write(buffer, x=x, y=y, classes=["s", "b"], feature_names=["a", "b", "c"], weight=np.abs(x[:, 0]))
        yield name, buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.array(list(zip(*(v.tolist() for v in table.values()), strict=True)), [(n, v.dtype) for n, v in table.items()]))
    yield "t.npy", buffer.getvalue()
    yield from _optional(table, x, y)
    yield from _heaps()
    for name in ("dense.h5", "few.keras", "scales.json"):
        yield f"q_{name}", (GOLDEN / "qkeras" / name).read_bytes()
    yield "dense.keras", (GOLDEN / "dense.keras").read_bytes()
    settings = "HGQModel: m\nOutputDir: p\nBackend: Vitis\nPart: xcvu13p-flga2577-2-e\nHLSConfig:\n  Model:\n    Strategy: latency\n"
    yield "model.yml", settings.encode()
    manifest = {"schema": 1, "status": "done", "experiment": "e", "config": {}, "data": {}, "seconds": 1.0}
    yield "manifest.json", json.dumps(manifest).encode()


def _optional(table, x, y):
    with contextlib.suppress(ImportError):
        import polars as pl

        buffer = io.BytesIO()
        pl.DataFrame(table).write_parquet(buffer)
        yield "t.parquet", buffer.getvalue()
    with contextlib.suppress(ImportError):
        import h5py

        for name in ("t.h5", "x.h5", TEXT):
            buffer = io.BytesIO()
            with h5py.File(buffer, "w") as file:
                if name == "x.h5":
                    file.create_dataset("x", data=x, chunks=(20, 3), compression="gzip")
                    file["y"] = y
                elif name == TEXT:
                    file["a"], file["label"] = x[:, 0], np.array(["background", "s"], object)[y]
                else:
                    file["jets"], file["jetFeatureNames"] = np.stack(list(table.values()), axis=1), np.array(list(table), "S")
            yield name, buffer.getvalue()
    with contextlib.suppress(ImportError):
        import onnx  # noqa: F401 - the reader needs it

        yield "convolutions.onnx", (GOLDEN / "qonnx" / "convolutions.onnx").read_bytes()
    with contextlib.suppress(ImportError):
        import uproot

        path = Path(sys.argv[1], "made.root")
        with uproot.recreate(path) as file:
            file.mktree("t", {name: values.dtype for name, values in table.items()}).extend(table)
        yield "t.root", path.read_bytes()
    with contextlib.suppress(ImportError):
        import scipy.io

        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"X": np.zeros((32, 32, 3, 40), np.uint8), "y": np.arange(40)[:, None] % 10 + 1})
        yield "t.mat", buffer.getvalue()


def _heaps():
    """A file of Keras's older format, whose text lies in a global heap."""
    with contextlib.suppress(ImportError):
        import h5py

        layers = [{"class_name": "hgq>QDense", "config": {"name": "d"}}]
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
            file.attrs["keras_version"] = "2.1"
            group = file.create_group("model_weights/d")
            group.attrs["weight_names"] = ["d/kernel:0", "d/bias:0"]
            group["d/kernel:0"], group["d/bias:0"] = np.ones((2, 2), np.float32), np.ones(2, np.float32)
        yield "old.keras", buffer.getvalue()


def models(folder):
    """The two files of a small model description."""
    from description.test_model import network  # of the tests, beside this file

    network().save(folder / "made")
    return {path.name: path.read_bytes() for path in (folder / "made").iterdir()}


def mutated(content, rng):
    """A few changes: bytes, spans, tokens, numbers, a cut, a piece twice, a member of an archive."""
    if content[:2] == b"PK" and rng.random() < 0.6:
        return _member_mutated(content, rng)
    content = bytearray(content)
    heap = content.find(b"GCOL")
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randrange(len(content) + 1)
        if heap >= 0 and rng.random() < 0.5:  # a header in a heap of text, whose damage is rare otherwise
            start = min(heap + 8 * rng.randrange(40), len(content))
        stop = min(len(content), start + rng.choice((1, 4, 8, 64)))
        kind = rng.randrange(7)
        if kind == 0 and start < len(content):
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[start : len(content) if rng.random() < 0.3 else stop]
        elif kind == 2:
            content[start:start] = rng.choice(TOKENS)
        elif kind == 3:
            content[start:stop] = rng.choice(TOKENS)
        elif kind == 4:
            content[start:start] = content[start:stop] * rng.choice((1, 2, 1000))
        elif kind == 5:
            content[start:stop] = rng.randbytes(stop - start)
        else:
            content[start : start + 8] = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)).to_bytes(8, "little")
        if not content:
            content = bytearray(b"\n")
    return bytes(content)


def _member_mutated(content, rng):
    """The same archive, sound, with one member changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            new.writestr(name, mutated(old.read(name), rng) if name == chosen else old.read(name))
    return buffer.getvalue()


def read(folder, name, model):
    """What is done with a file of this name."""
    path = folder / name
    if name.startswith("q_"):
        shutil.copy(GOLDEN / "qkeras" / "scales_weights.h5", folder / "q_scales_weights.h5")
        interop.load_qkeras(path).summary()
        interop.load_keras_weights(path)
    elif name.endswith(".keras"):
        interop.load_hgq2(path).summary()
    elif name.endswith(".onnx"):
        interop.load_qonnx(path).summary()
    elif name in model:
        ModelDescription.load(folder).summary()
    elif name == "model.yml":
        read_config(path)
    elif name == "manifest.json":
        Run.open(folder)
    else:
        refused = None
        for columns in (Columns(), Columns(target=("label",), features=("a", "b"), weight="weight")):
            try:
                data.load(path, columns)
            except data.DataError as error:
                refused = error
        if refused is not None:
            raise refused


def main():
    """Runs COUNT inputs and prints [name, index, error] of each that ended otherwise than well or in one sentence."""
    folder, seed, count, megabytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    model = models(folder)
    contents = dict(samples()) | model
    here = folder / "read"
    here.mkdir()
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (megabytes << 20),) * 2)
    names = [name for name in contents if name != TEXT] * 10 + [name for name in contents if name == TEXT]
    rng, failures = random.Random(seed), []
    warnings.simplefilter("ignore")
    hdf5._TEXT_SECONDS = 10.0  # a few damaged heaps are read for ever
    for index in range(count):
        name = names[index % len(names)]
        content = mutated(contents[name], rng)
        for other in model:
            (here / other).write_bytes(model[other])
        if name == "arrays.npz":  # sound by its checksum, so that it is read
            header = json.loads(model["description.json"])
            header["arrays_sha256"] = hashlib.sha256(content).hexdigest()
            (here / "description.json").write_text(json.dumps(header))
        (folder / "last").write_text(f"{name} {index}")
        (here / name).write_bytes(content)
        try:
            read(here, name, model)
        except SAID as error:
            if "\n" in str(error) or len(str(error)) > 2000 or "Unable to allocate" in str(error):  # numpy's: no size was checked
                failures.append([name, index, f"no one sentence, or a size that was not checked: {str(error)[:300]}"])
        except BaseException as error:
            failures.append([name, index, "".join(traceback.format_exception(error)[-4:])])
    print(json.dumps(failures))


if __name__ == "__main__":
    main()
