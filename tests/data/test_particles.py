"""Particle-level jets: the embedded file, and the public archives (small ones made here, and a server on 127.0.0.1)."""

import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import DataError, particles, particles150
from hgqjax.data.rows import JET_CLASSES


@pytest.fixture(scope="module")
def rows():
    return particles.read(32)


def test_rows_are_those_of_the_shared_file(shared, rows):
    with np.load(shared / "data" / "jets_particles_resim" / "jets_particles_60k.npz") as file:
        x, y = file["x"][: len(rows.x)].copy(), file["y"][: len(rows.x)]
    assert np.mean((x[:, :, 0] < particles.PT_MIN) & (x[:, :, 0] > 0)) > 0.02
    x[x[:, :, 0] < particles.PT_MIN] = 0
    assert rows.x.dtype == np.float16 and np.array_equal(rows.x, x)
    assert np.array_equal(np.array(JET_CLASSES)[rows.y], np.array(list("gqtwz"))[y])


def test_the_file_is_small_and_its_rows_are_sound(rows):
    assert particles.FILE.stat().st_size < 8_000_000
    pt = rows.x[:, :, 0].astype(np.float32)
    assert np.all(np.diff(pt, axis=1) <= 0) and np.all((pt == 0) | (pt >= particles.PT_MIN)) and np.all(pt[:, 0] > 20)
    assert np.all(rows.x[pt == 0] == 0) and np.all(abs(rows.x[:, :, 1:]) < 0.7)
    assert np.bincount(rows.y).min() > 10_500
    heavy = {name: np.mean(np.count_nonzero(pt[rows.y == n], axis=1)) for n, name in enumerate(JET_CLASSES)}
    assert heavy["g"] > heavy["q"] + 1 and heavy["t"] > heavy["w"] + 1


def test_fewer_constituents_are_the_hardest(rows):
    some = particles.read(8)
    assert np.array_equal(some.x, rows.x[:, :8]) and some.name == rows.name == "particles (re-simulated)"
    known = some.x[: -particles.TEST].astype(np.float64)
    for n in range(3):
        assert np.allclose(some.scaler.mean[:, n], known[:, :, n].mean(), rtol=1e-9, atol=1e-12)
        assert np.allclose(some.scaler.scale[:, n], known[:, :, n].std(), rtol=1e-9)


def test_load():
    found, default = data.load("particles:4", rows=530), data.load("particles", rows=53)
    assert found.x_train.shape == (380, 4, 3) and len(found.x_val) == 50 and len(found.x_test) == 100 and default.input_shape == (16, 3)
    assert found.classes == JET_CLASSES and found.feature_names == particles.FEATURES
    examples = data.load_rows("particles:4", scaler=found.scaler, classes=found.classes, features=found.feature_names)
    assert np.array_equal(examples.x[:380], found.x_train)


@pytest.mark.parametrize("name", ["particles:0", "particles:33", "particles:", "particles:x", "particles:16x3"])
def test_other_numbers_of_constituents(name):
    with pytest.raises(DataError, match=rf"^{name} is unknown: these jets have 1 \.\. 32 constituents"):
        data.load(name)


def test_pack_keeps_every_bit_and_refuses_what_does_not_fit(rows):
    x = rows.x[:200]
    assert np.array_equal(particles.unpack(particles.pack(x)).view(np.uint16), x.view(np.uint16))
    with pytest.raises(DataError, match=r"type float32 and shape \(200, 32, 3\), but must be float16"):
        particles.pack(x.astype(np.float32))
    for change in (lambda v: v[:, ::-1], lambda v: np.where(v == v[0, 0, 1], np.float16(np.nan), v), lambda v: -abs(v)):
        with pytest.raises(DataError, match="pT must fall from one to the next"):
            particles.pack(np.ascontiguousarray(change(x)))


# ---- the public archives ----

h5py = pytest.importorskip("h5py")


def h5_bytes(rng, jets, width=59, labels=None):
    """One file as Zenodo's: constituents by falling pT, some below 2 GeV, and one-hot labels in columns 53 to 57."""
    x = rng.normal(size=(jets, 150, 16))
    x[:, :, 5] = np.sort(rng.exponential(0.6, (jets, 150)), axis=1)[:, ::-1]
    table = rng.normal(size=(jets, width))
    labels = rng.integers(0, 5, jets) if labels is None else labels
    table[:, 53:] = 0
    table[np.arange(jets), 53 + labels] = 1
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["jetConstituentList"], file["jets"] = x, table
    return content.getvalue(), x, labels


def archive(files, name):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as out:
        for n, part in enumerate(files):
            about = tarfile.TarInfo(f"{name}/jetImage_7_150p_{n}0000.h5")
            about.size = len(part)
            out.addfile(about, io.BytesIO(part))
    return content.getvalue()


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A folder with both archives, the same unpacked, and the constituents and labels in their order."""
    rng = np.random.default_rng(0)
    made = {"train": [h5_bytes(rng, n) for n in (30, 20)], "val": [h5_bytes(rng, 25)]}
    packed, plain = tmp_path_factory.mktemp("packed"), tmp_path_factory.mktemp("plain")
    for (part, files), name in zip(made.items(), (particles150.TRAIN, particles150.TEST), strict=True):
        (packed / name).write_bytes(archive([content for content, _, _ in files], part))
        (plain / part).mkdir()
        for n, (content, _, _) in enumerate(files):
            (plain / part / f"{n}.h5").write_bytes(content)
    files = [file for part in made.values() for file in part]
    return packed, plain, np.concatenate([x for _, x, _ in files]), np.concatenate([y for _, _, y in files])


def test_archives_and_folders_give_the_same_rows(public):
    packed, plain, x, y = public
    three, all_ = particles150.read(10, 3, packed), particles150.read(10, 16, plain)
    expected = np.where(x[:, :10, 5:6] < 2, 0, x[:, :10]).astype(np.float32).astype(np.float16)
    assert np.array_equal(all_.x, expected) and np.array_equal(three.x, expected[:, :, [5, 8, 11]]) and np.any(expected[:, :, 5] == 0)
    assert three.feature_names == ("pt", "eta_rel", "phi_rel") and len(all_.feature_names) == 16
    assert np.array_equal(three.y, y) and three.parts == (45, 5, 25) and three.classes == JET_CLASSES
    known = expected[:50, :, 8].astype(np.float64)
    assert np.allclose(all_.scaler.mean[:, 8], known.mean()) and np.allclose(all_.scaler.scale[:, 8], known.std())


def test_by_name(public, monkeypatch, tmp_path):
    packed, plain, _, _ = public
    found = data.load(f"particles150:4x16:{plain}")
    assert found.input_shape == (4, 16) and (len(found.x_train), len(found.x_val), len(found.x_test)) == (45, 5, 25)
    monkeypatch.chdir(packed)
    assert data.absolute("particles150:4:.") == f"particles150:4:{packed}"
    assert data.origin(f"particles150:4:{packed}")[0] == "LHC jets of 150 particles (Zenodo 3602260)"
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        data.check(f"particles150:4x3:{tmp_path / 'nowhere'}")
    for sizes in ("0", "151", "16x4", "16x", "x3", "sixteen"):
        with pytest.raises(DataError, match=rf"particles150:{sizes} is unknown; give 1 \.\. 150 constituents and 3 or 16 features"):
            data.check(f"particles150:{sizes}")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.files.get(self.path)
        self.server.requests.append(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


def test_archives_are_downloaded_once(public, tmp_path, monkeypatch, capsys):
    packed, _, _, _ = public
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {f"/{name}": (packed / name).read_bytes() for name in (particles150.TRAIN, particles150.TEST)}
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        first = particles150.read(4, cache_dir=tmp_path, address=address)
        again = particles150.read(4, cache_dir=tmp_path, address=address)
        server.shutdown()
        thread.join()
    assert len(server.requests) == 2 and first.sha256 == again.sha256 and np.array_equal(first.x, again.x)
    assert "downloading" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be downloaded"):
        particles150.read(4, cache_dir=tmp_path / "other", address="http://127.0.0.1:9", timeout_s=1.0)


def test_files_that_are_no_jets(public, tmp_path):
    packed, _, _, _ = public
    rng = np.random.default_rng(1)
    with pytest.raises(DataError, match="has neither hls4ml_LHCjet_150p_train.tar.gz nor a folder train"):
        particles150.read(4, folder=tmp_path)
    (tmp_path / particles150.TRAIN).write_bytes((packed / particles150.TRAIN).read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot be read as a \.tar\.gz archive"):
        particles150.read(4, folder=tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"has no \.h5 file"):
        particles150.read(4, folder=tmp_path)
    path = tmp_path / "train" / "a.h5"
    for content, message in (
        (b"no hdf5", "a.h5: has no jets of 150 particles"),
        (h5_bytes(rng, 3, width=60)[0], r"a.h5: jetConstituentList and jets have shapes \(3, 150, 16\) and \(3, 60\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            particles150.read(4, folder=tmp_path)
    path.write_bytes(h5_bytes(rng, 3)[0])
    with h5py.File(path, "r+") as file:
        file["jets"][1, 53:58] = 1
    with pytest.raises(DataError, match="columns 53 to 57 of jets are no labels"):
        particles150.read(4, folder=tmp_path)
