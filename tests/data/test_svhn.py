"""SVHN: MATLAB files made here, a server on 127.0.0.1 for the official ones, blocks, and what is refused."""

import hashlib
import http.server
import io
import threading

import numpy as np
import pytest
import scipy.io

from hgqjax import data
from hgqjax.data import DataError, svhn

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (100, 32, 32, 3), np.uint8)
LABELS = (np.arange(100) % 10).astype(np.uint8)


def mat(images=IMAGES, labels=LABELS, compressed=False, **changes):
    """Bytes of a file as SVHN's: X (32, 32, 3, rows), y (rows, 1) of 1 .. 10."""
    buffer = io.BytesIO()
    content = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]} | changes
    scipy.io.savemat(buffer, {name: array for name, array in content.items() if array is not None}, do_compression=compressed)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "digits"
    place.mkdir()
    for name, rows in ((svhn.TRAIN, slice(0, 60)), (svhn.TEST, slice(60, 80)), (svhn.EXTRA, slice(80, 100))):
        (place / name).write_bytes(mat(IMAGES[rows], LABELS[rows], compressed=name == svhn.TEST))
    return place


def test_official_files_keep_their_split(folder):
    loaded = data.load(f"svhn:{folder}")
    assert loaded.name == "SVHN files in digits"  # not the official ones, by their checksums
    assert loaded.classes == tuple("0123456789") and loaded.input_shape == (32, 32, 3) and loaded.kind == "classes"
    np.testing.assert_array_equal(loaded.x_train * np.float16(256), IMAGES[:54])
    np.testing.assert_array_equal(loaded.x_val * np.float16(256), IMAGES[54:60])
    np.testing.assert_array_equal(loaded.x_test * np.float16(256), IMAGES[60:80])
    np.testing.assert_array_equal(np.concatenate([loaded.y_train, loaded.y_val, loaded.y_test]), LABELS[:80])
    assert loaded.x_train.dtype == np.float16 and loaded.y_train.dtype == np.int32
    few = data.load(f"svhn:{folder}", rows=40, validation_fraction=0.5)
    assert [len(y) for y in (few.y_train, few.y_val, few.y_test)] == [15, 15, 10]
    np.testing.assert_array_equal(few.y_test, LABELS[60:70])


def test_extra_digits_are_for_training_only(folder):
    loaded = data.load(f"svhn_extra:{folder}")
    np.testing.assert_array_equal(loaded.y_train, np.concatenate([LABELS[80:], LABELS[:54]]))
    np.testing.assert_array_equal(loaded.y_val, LABELS[54:60])
    np.testing.assert_array_equal(loaded.y_test, LABELS[60:80])


def test_one_mat_file_is_split_into_blocks(folder):
    loaded = data.load(str(folder / svhn.TRAIN))
    assert loaded.name == "SVHN train_32x32.mat, block split"
    np.testing.assert_array_equal(loaded.y_val, LABELS[48:54])
    np.testing.assert_array_equal(loaded.x_test * np.float16(256), IMAGES[54:60])


def save(tmp_path, x=IMAGES, y=LABELS, name="first.npz"):
    np.savez(tmp_path / name, x=x, y=y)
    return tmp_path / name


def test_npz_of_the_test_file(tmp_path):
    path = save(tmp_path)
    loaded = data.load(f"svhn:{path}")
    assert loaded.name == "SVHN test-subset, block split"
    assert [len(y) for y in (loaded.y_train, loaded.y_val, loaded.y_test)] == [80, 10, 10]
    np.testing.assert_array_equal(loaded.x_val * np.float16(256), IMAGES[80:90])
    x, y, _ = data.load_rows(f"svhn:{path}", scaler=loaded.scaler, classes=loaded.classes)
    assert x.dtype == np.float32 and y.tolist() == LABELS.tolist()
    assert data.load(str(path)).name == "arrays first.npz"  # images as any others, split at random


def test_the_shared_file(shared):
    loaded = data.load(f"svhn:{shared / 'data' / 'svhn_test10k' / 'svhn_test_first10k.npz'}", rows=1000)
    assert loaded.name == "SVHN test-subset, block split" and loaded.y_train[:3].tolist() == [5, 2, 1]
    assert [len(y) for y in (loaded.y_train, loaded.y_val, loaded.y_test)] == [800, 100, 100]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, folder):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests, running.files = [], {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
        running.md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        running.options = {"address": f"http://127.0.0.1:{running.server_port}", "md5": running.md5}
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_files_are_downloaded_once(server, tmp_path, monkeypatch):
    rows = svhn.read(tmp_path, **server.options)
    assert rows.name == "SVHN" and rows.parts == (54, 6, 20) and rows.y.tolist() == LABELS[:80].tolist()
    assert svhn.read(tmp_path, **server.options).sha256 == rows.sha256
    assert server.requests == ["/train_32x32.mat", "/test_32x32.mat"]
    extra = svhn.read(tmp_path, extra=True, **server.options)
    assert extra.name == "SVHN with extra" and extra.parts == (74, 6, 20) and extra.sha256 != rows.sha256
    assert server.requests[2:] == ["/extra_32x32.mat"]
    monkeypatch.setattr(svhn, "MD5", server.md5)
    assert data.load(f"svhn:{tmp_path / 'svhn'}").name == "SVHN"  # by the checksums
    (tmp_path / "svhn" / svhn.TEST).write_bytes(b"broken")
    assert svhn.read(tmp_path, **server.options).sha256 == rows.sha256 and server.requests[3:] == ["/test_32x32.mat"]


def test_a_download_with_another_checksum_is_refused(server, tmp_path):
    with pytest.raises(DataError, match=r"train_32x32.mat: the download is not the file of checksum md5:e26dedcc434d2e4c54c9b2d4a06d8373"):
        svhn.read(tmp_path, address=server.options["address"])


def test_no_network(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded .*; without a network, give the path of a local copy"):
        svhn.read(tmp_path, address="http://127.0.0.1:9", timeout_s=2.0)


BAD_MAT = {
    "no X": (mat(X=None), "has no array X, so it is no SVHN file of cropped digits"),
    "nothing": (mat(X=None, y=None, z=np.ones(3)), "has no array X and no array y"),
    "other size": (mat(IMAGES[:, :28]), r"X has type uint8 and shape \(28, 32, 3, 100\), but SVHN's is uint8, \(32, 32, 3, rows\)"),
    "floats": (mat(IMAGES[:20] / 255, LABELS[:20]), "X has type float64"),
    "no rows": (mat(IMAGES[:0], LABELS[:0]), r"has shape"),
    "labels differ": (mat(labels=LABELS[:7]), r"y has type uint8 and shape \(7, 1\), but must be numbers, \(100, 1\)"),
    "digit 0 as 0": (mat(y=LABELS[:, None]), "label 0 at index 0 must be a whole number, 1 .. 10"),
    "digit 11": (mat(y=LABELS[:, None] + 2), "label 11 at index 9 must be a whole number"),
    "text": (mat(y="labels"), "y has type <U6"),
    "empty": (b"", "cannot be read as a MATLAB 5 file"),
    "no mat": (b"no MATLAB file at all" * 20, "cannot be read as a MATLAB 5 file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "cannot be read as a MATLAB 5 file"),
}


@pytest.mark.parametrize("case", BAD_MAT)
def test_bad_mat_files(tmp_path, case):
    content, message = BAD_MAT[case]
    (tmp_path / "digits.mat").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load(str(tmp_path / "digits.mat"))
    assert str(caught.value).startswith(str(tmp_path / "digits.mat")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_truncations_are_noticed(tmp_path, compressed):
    content = mat(IMAGES[:12], LABELS[:12], compressed)
    for n in (*range(0, 300, 23), *range(300, len(content) - 1, 3989)):
        (tmp_path / "digits.mat").write_bytes(content[:n])
        with pytest.raises(DataError, match="digits.mat: "):
            data.load(str(tmp_path / "digits.mat"))


@pytest.mark.parametrize(
    "x, y, message",
    [
        (IMAGES[:, :28], LABELS, r"x has type uint8 and shape \(100, 28, 32, 3\), but SVHN digits are uint8, \(rows, 32, 32, 3\)"),
        (IMAGES / 256, LABELS, "x has type float64"),
        (IMAGES, LABELS + 1, "label 10 at index 9 must be a whole number, 0 .. 9"),
        (IMAGES, LABELS[:5], r"y has type uint8 and shape \(5,\), but must be numbers, \(100,\)"),
        (IMAGES[:5], LABELS[:5], "5 rows are too few"),
    ],
)
def test_bad_npz_files(tmp_path, x, y, message):
    with pytest.raises(DataError, match=message):
        data.load(f"svhn:{save(tmp_path, x, y)}")


def test_bad_paths(folder, tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        data.load(f"svhn:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="has no file train_32x32.mat and no file test_32x32.mat, which SVHN needs"):
        data.load(f"svhn:{tmp_path}")
    with pytest.raises(DataError, match="train_32x32.mat: is a file, but svhn_extra needs a folder with train_32x32.mat, test_32x32.mat"):
        data.load(f"svhn_extra:{folder / svhn.TRAIN}")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="a.csv: is no SVHN file; give a folder with train_32x32.mat and test_32x32.mat, a .mat or an .npz"):
        data.load(f"svhn:{tmp_path / 'a.csv'}")


def test_the_official_address_and_checksums():
    assert svhn.ADDRESS == "http://ufldl.stanford.edu/housenumbers"
    assert svhn.MD5[svhn.TEST] == "eb5a983be6a315427106f1b164d9cef3" and set(svhn.MD5) == {svhn.TRAIN, svhn.TEST, svhn.EXTRA}
