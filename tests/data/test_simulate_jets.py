"""scripts/simulate_jets.py: packing, and the parts of the simulation that need neither Pythia nor FastJet."""

import importlib.util
import itertools
import math
import pathlib
import zipfile

import numpy as np
import pytest

from hgqjax.data import DataError, jets, particles
from hgqjax.data.rows import JET_CLASSES

pytest.importorskip("tyro")
SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "simulate_jets.py"
SHARED = SCRIPT.parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("simulate_jets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows():
    return jets.read()


def save(path, rows, chosen):
    names = np.array(rows.classes)[rows.y[chosen]]
    np.savez(path, x=rows.x[chosen], y=names, feature_names=rows.feature_names)
    return path


def unpacked(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file}
    return jets.unpack(arrays), arrays["y"]


def test_pack_balances_shuffles_and_is_deterministic(script, rows, tmp_path):
    files = [save(tmp_path / f"{c}.npz", rows, np.flatnonzero(rows.y == i)[: 20 + i]) for i, c in enumerate(JET_CLASSES)]
    for name in ("one.npz", "two.npz"):
        script.pack(tuple(files), tmp_path / name)
    x, y = unpacked(tmp_path / "one.npz")
    assert np.bincount(y).tolist() == [20] * 5 and np.any(np.diff(y.astype(int)) < 0)
    known = {row.tobytes(): label for row, label in zip(rows.x, rows.y, strict=True)}
    assert [known[row.tobytes()] for row in x] == y.tolist()
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as file:
        assert {entry.date_time[0] for entry in file.infolist()} == {1980}  # no time of day in the bytes


def test_pack_takes_over_the_scaler(script, rows, tmp_path):
    source = save(tmp_path / "rows.npz", rows, slice(0, 50))
    np.savez(tmp_path / "scaler.npz", scaler_mean=np.arange(16.0), scaler_scale=np.ones(16))
    script.pack((source,), tmp_path / "out.npz", scaler=tmp_path / "scaler.npz", keep_order=True)
    with np.load(tmp_path / "out.npz") as file:
        assert file["scaler_mean"].tolist() == list(range(16))
    script.pack((source,), tmp_path / "out.npz", keep_order=True)
    with np.load(tmp_path / "out.npz") as file:
        assert file["scaler_mean"].tolist() == rows.scaler.mean.tolist()
    np.testing.assert_array_equal(unpacked(tmp_path / "out.npz")[0], rows.x[:50])


def test_pack_makes_the_shipped_rows(script, tmp_path):
    merged = SHARED / "jets_resim" / "jets_resim.npz"
    if not merged.is_file():
        pytest.skip(f"needs {merged}, which is not part of the repository")
    scaler = SHARED / "jets_openml_real1000" / "jsc_openml_test1000.npz"
    script.pack((merged,), tmp_path / "out.npz", scaler=scaler, keep_order=True)
    with np.load(tmp_path / "out.npz") as made, np.load(jets.FILE) as shipped:
        assert made.files == shipped.files
        for key in made.files:
            np.testing.assert_array_equal(made[key], shipped[key])


def test_pack_refuses(script, rows, tmp_path, monkeypatch):
    gluons = save(tmp_path / "g.npz", rows, np.flatnonzero(rows.y == 0)[:10])
    with pytest.raises(DataError, match="every class needs rows: g, q, w, z, t"):
        script.pack((gluons,), tmp_path / "out.npz")
    np.savez(tmp_path / "other.npz", x=np.ones((4, 2)), y=["g", "q", "g", "q"])
    with pytest.raises(DataError, match=r"other.npz: cannot be packed; it must hold the features zlogz"):
        script.pack((tmp_path / "other.npz",), tmp_path / "out.npz")
    monkeypatch.setattr(script, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="bytes for 10 rows are too many"):
        script.pack((gluons,), tmp_path / "out.npz", keep_order=True)


def test_missing_packages_are_named_in_one_sentence(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^simulate needs pythia8mc, fastjet, numba: pip install 'hgqjax\[simulation\]'$"):
        script.simulate("t", 1, 1, tmp_path / "t.npz")


def test_energy_correlators(script):
    rng = np.random.default_rng(0)
    z, y, phi = rng.dirichlet(np.ones(5)), rng.normal(size=5), rng.uniform(0, 2 * np.pi, 5)

    def distance(a, b):
        turn = abs(phi[a] - phi[b])
        return math.hypot(y[a] - y[b], min(turn, 2 * math.pi - turn))

    e2, e3, v1, v2 = script.energy_correlators(z, y, phi)
    pairs, triples = list(itertools.combinations(range(5), 2)), list(itertools.combinations(range(5), 3))
    assert e2 == pytest.approx([sum(z[a] * z[b] * distance(a, b) ** p for a, b in pairs) for p in (0, 1, 2)])
    for beta in (1, 2):
        weighted = [(math.prod(z[list(t)]), sorted(distance(a, b) ** beta for a, b in itertools.combinations(t, 2))) for t in triples]
        assert e3[beta - 1] == pytest.approx(sum(w * d[0] * d[1] * d[2] for w, d in weighted))
        assert v1[beta - 1] == pytest.approx(sum(w * d[0] for w, d in weighted))
        assert v2[beta - 1] == pytest.approx(sum(w * d[0] * d[1] for w, d in weighted))


def test_calorimeter_keeps_energy_inside_its_range(script):
    rng = np.random.default_rng(1)
    eta, phi, energy = rng.uniform(-4, 4, 500), rng.uniform(0, 2 * np.pi, 500), rng.exponential(5.0, 500)
    cells = script.calorimeter(eta, phi, energy, 0.3)
    assert cells[:, 3].sum() == pytest.approx(energy[np.abs(eta) < 3].sum())
    assert np.linalg.norm(cells[:, :3], axis=1) == pytest.approx(cells[:, 3])  # massless
    assert len(cells) <= 20 * 20


def test_detector_keeps_charged_particles_and_replaces_the_rest(script):
    momentum = np.array([[5.0, 0.0, 0.0], [0.0, 7.0, 0.0], [300.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    final = np.column_stack([momentum, np.linalg.norm(momentum, axis=1), [211, 22, 211, 12]])  # pion, photon, hard pion, neutrino

    class Still:
        def normal(self, size):
            return np.zeros(size)

    seen = script.detect(final, Still())
    assert seen[:, 3].tolist() == [5.0, 300.0, 7.0]
    assert seen[0].tolist() == [5.0, 0.0, 0.0, 5.0]
    assert np.allclose(seen[2], [0.0, 7.0, 0.0, 7.0], atol=0.05) and not np.array_equal(seen[2], final[1, :4])


def test_pack_particles_makes_the_shipped_file(script, tmp_path):
    source = SHARED / "jets_particles_resim" / "jets_particles_60k.npz"
    if not source.exists():
        pytest.skip(f"needs {source}")
    script.pack_particles((source,), tmp_path / "p.npz", rows=53_000, keep_order=True)
    assert (tmp_path / "p.npz").read_bytes() == particles.FILE.read_bytes()


def test_pack_particles_of_simulated_files(script, tmp_path):
    rng = np.random.default_rng(0)
    for name in JET_CLASSES:
        x = rng.normal(size=(6, 32, 3)).astype(np.float16)
        x[:, :, 0] = np.sort(abs(x[:, :, 0]), axis=1)[:, ::-1]
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((6, 16)), y=np.full(6, name), constituents=x)
    script.pack_particles(tuple(sorted(tmp_path.glob("?.npz"))), tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as file:
        assert np.bincount(file["y"]).tolist() == [6] * 5
        first = particles.unpack({key: file[key] for key in file.files})[file["y"] == 1]
    with np.load(tmp_path / "q.npz") as file:
        assert {row.tobytes() for row in first} == {row.tobytes() for row in file["constituents"]}
    np.savez(tmp_path / "old.npz", x=np.zeros((6, 16)), y=np.full(6, "g"))
    with pytest.raises(DataError, match=r"old\.npz: has no constituents of jets; simulate it again"):
        script.pack_particles((tmp_path / "old.npz",), tmp_path / "no.npz")


class Momentum:
    """As FastJet's, of one particle."""

    def __init__(self, pt, eta, phi):
        self.values = pt, eta, phi

    pt, eta, phi = (lambda self, n=n: self.values[n] for n in range(3))


def test_hardest_constituents_are_relative_to_the_jet(script):
    jet = Momentum(0, 0.5, 6.2)
    found = script.hardest(jet, [Momentum(1, 0.4, 0.1), Momentum(5, 0.6, 6.0)])
    assert found.shape == (32, 3) and np.all(found[2:] == 0)
    assert np.allclose(found[:2], [[5, 0.1, -0.2], [1, -0.1, 0.1 - 6.2 + 2 * np.pi]])
    assert np.all(script.hardest(jet, [Momentum(n, 0, 0) for n in range(40)])[:, 0] == np.arange(39, 7, -1))
