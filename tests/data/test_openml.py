"""The downloader and the OpenML reader against a server on 127.0.0.1."""

import hashlib
import http.server
import json
import threading

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import DataError, openml
from hgqjax.data.download import download
from hgqjax.data.rows import JET_CLASSES, JET_FEATURES

pytest.importorskip("polars")

X = np.random.default_rng(0).normal(size=(50, 16))
ARFF = "@RELATION jets\n" + "".join(f"@ATTRIBUTE {name} REAL\n" for name in JET_FEATURES) + "@ATTRIBUTE class {g,q,t,w,z}\n@DATA\n"
ARFF += "".join(",".join(map(repr, row)) + f",{'gqtwz'[i % 5]}\n" for i, row in enumerate(X.tolist()))


class Server(http.server.ThreadingHTTPServer):
    """Answers ``files[path]``; announces ``announced[path]`` bytes more than it sends; counts requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.announced, self.requests = {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + self.server.announced.get(self.path, 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def publish(server, arff=ARFF, md5=None):
    content = arff.encode()
    md5 = hashlib.md5(content).hexdigest() if md5 is None else md5
    server.files["/jets.arff"] = content
    description = {"data_set_description": {"url": f"{server.url}/jets.arff", "md5_checksum": md5}}
    server.files["/42468"] = json.dumps(description).encode()
    return f"{server.url}/42468"


def test_download_with_either_checksum_replaces_the_file(server, tmp_path):
    server.files["/a"] = b"some rows"
    path = tmp_path / "new folder" / "a"
    for name in ("md5", "sha256"):
        download(f"{server.url}/a", path, checksum=f"{name}:{hashlib.new(name, b'some rows').hexdigest().upper()}")
        assert path.read_bytes() == b"some rows"
        path.write_bytes(b"older")
    assert [entry.name for entry in path.parent.iterdir()] == ["a"]


def test_wrong_checksum_leaves_the_old_file_and_nothing_else(server, tmp_path):
    server.files["/a"] = b"some rows"
    (tmp_path / "a").write_bytes(b"older")
    with pytest.raises(DataError, match=rf"{server.url}/a: the download is not the file of checksum sha256:00; it is thrown away"):
        download(f"{server.url}/a", tmp_path / "a", checksum="sha256:00")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a", b"older")]


def test_truncated_transfer_leaves_nothing(server, tmp_path):
    server.files["/a"], server.announced["/a"] = b"some rows", 100
    with pytest.raises(DataError, match=r"cannot be downloaded .*9 bytes read, 100 more expected"):
        download(f"{server.url}/a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_refused_and_unreachable(server, tmp_path):
    with pytest.raises(DataError, match=r"/none: cannot be downloaded \(404 .*\); without a network, give the path of a local copy"):
        download(f"{server.url}/none", tmp_path / "a")
    with pytest.raises(DataError, match=r"cannot be downloaded \(.*refused.*\)"):
        download("http://127.0.0.1:9/a", tmp_path / "a", timeout_s=2.0)
    with pytest.raises(DataError, match="no address: cannot be downloaded"):
        download("no address", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(server, tmp_path):
    server.files["/a"] = b"some rows"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=f"{server.url}/a: cannot be downloaded"):
        download(f"{server.url}/a", tmp_path / "file" / "a")


def test_openml_is_downloaded_once_and_then_used_without_a_network(server, tmp_path):
    rows = openml.read(tmp_path, description_url=publish(server))
    assert rows.name == "OpenML 42468" and rows.classes == JET_CLASSES and rows.feature_names == JET_FEATURES
    np.testing.assert_array_equal(rows.x, X)
    assert rows.y[:5].tolist() == [0, 1, 4, 2, 3]  # the file's g, q, t, w, z
    assert rows.sha256 == hashlib.sha256(ARFF.encode()).hexdigest()
    assert server.requests == ["/42468", "/jets.arff"]
    loaded = data.load("openml", cache_dir=tmp_path)
    x, y, _ = data.load_rows("openml", scaler=loaded.scaler, classes=("t", "z", "w", "q", "g"), cache_dir=tmp_path)
    assert server.requests == ["/42468", "/jets.arff"]
    rest = np.concatenate(data.split(50)[:2])
    np.testing.assert_allclose(loaded.scaler.mean, X[rest].mean(axis=0), rtol=1e-12)
    assert len(x) == 50 and y[:5].tolist() == [4, 3, 0, 2, 1]


def test_broken_cache_is_fetched_again(server, tmp_path):
    url = publish(server)
    openml.read(tmp_path, description_url=url)
    (tmp_path / "openml_42468.arff").write_text(ARFF[:-100])
    assert len(openml.read(tmp_path, description_url=url).x) == 50
    assert server.requests == ["/42468", "/jets.arff"] * 2


def test_file_without_its_description_is_not_trusted(server, tmp_path):
    (tmp_path / "openml_42468.arff").write_text(ARFF.replace("{g,q,t,w,z}", "{t,w,z,g,q}"))
    rows = openml.read(tmp_path, description_url=publish(server))
    assert server.requests == ["/42468", "/jets.arff"]
    assert rows.sha256 == hashlib.sha256(ARFF.encode()).hexdigest()


def test_openml_with_wrong_checksum(server, tmp_path):
    with pytest.raises(DataError, match=r"jets.arff: the download is not the file of checksum md5:abc"):
        openml.read(tmp_path, description_url=publish(server, md5="abc"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["openml_42468.json"]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"data_set_description": {"url": "x"}}', b"\xff"])
def test_openml_with_a_strange_description(server, tmp_path, answer):
    publish(server)
    server.files["/42468"] = answer
    with pytest.raises(DataError, match=r"openml_42468.json: is no OpenML description with a url and an md5_checksum"):
        openml.read(tmp_path, description_url=f"{server.url}/42468")


def test_openml_that_is_another_data_set(server, tmp_path):
    other = ARFF.replace("zlogz", "zlog")
    with pytest.raises(DataError, match=r"openml_42468.arff: is not hls4ml_lhc_jets_hlf, which has the features zlogz, "):
        openml.read(tmp_path, description_url=publish(server, other))


def test_openml_without_a_network(tmp_path):
    with pytest.raises(DataError, match=r"cannot be downloaded .*; without a network, give the path of a local copy"):
        openml.read(tmp_path, description_url="http://127.0.0.1:9/", timeout_s=2.0)


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert openml.default_cache_dir() == tmp_path / "hgqjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert openml.default_cache_dir() == tmp_path / ".cache" / "hgqjax"


def test_the_official_address():
    assert openml.DESCRIPTION_URL == "https://www.openml.org/api/v1/json/data/42468"
