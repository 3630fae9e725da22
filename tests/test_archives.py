"""Files of strangers: sizes are compared with what there is before anything is allocated."""

import errno
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from hgqjax import archives, cli, data
from hgqjax.archives import ArchiveError, Npz, available_memory, check_memory
from hgqjax.cli import guarded
from hgqjax.files import new_folder
from tests.hostile import npy_header, write_npz


def test_a_header_that_claims_more_than_the_file_holds(tmp_path, capsys):
    path = write_npz(tmp_path / "huge.npz", {"x": npy_header((10**13, 4)), "y": npy_header((10**13,), "<i4")})
    with pytest.raises(data.DataError, match=r"huge.npz: .*x: its header claims the shape .* of float32, 160 TB, but 0 bytes follow"):
        data.load(path)
    (tmp_path / "huge.npy").write_bytes(npy_header((10**13, 4)))
    with pytest.raises(data.DataError, match=r"huge.npy: .*claims the shape \(10000000000000, 4\) of float32, but 0 bytes follow"):
        data.load(tmp_path / "huge.npy")
    assert cli.main(["sweep", "--data", str(path), "--results", str(tmp_path / "results")]) == 2  # and nothing is begun
    said = capsys.readouterr().err
    assert said.startswith(f"hgqjax: {path}: ") and said.count("\n") == 1 and not (tmp_path / "results").exists()


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    rows = 1_000_000
    content = npy_header((rows, 4)) + bytes(16 * rows)
    path = write_npz(tmp_path / "bomb.npz", {"x": content, "y": npy_header((rows,), "|u1") + bytes(rows)})
    assert path.stat().st_size < len(content) / 100
    monkeypatch.setattr(archives, "available_memory", lambda: 20_000_000)
    with pytest.raises(data.DataError, match="takes 17 MB in memory; 3 times that is needed and 20 MB are free"):
        data.load(path)


@pytest.mark.parametrize("kind, message", [("|O", "no allow_pickle"), ("<U0", "values of type <U0")])
def test_objects_and_types_without_size(tmp_path, kind, message):
    path = write_npz(tmp_path / "odd.npz", {"x": npy_header((10**13,), kind)})
    with pytest.raises(ArchiveError, match=message):
        Npz(path).read(["x"])


def test_headers_that_are_no_headers(tmp_path):
    start = b"\x93NUMPY\x01\x00"
    for head in (
        b"(" * 3000,
        b"{'descr': '<f4', 'shape': (-1,)}",
        b"{'shape': (2.5,), 'descr': '<f4'}",
        b"[]",
        b"\xff" * 40,
        b"__import__",
    ):
        path = write_npz(tmp_path / "odd.npz", {"x": start + len(head).to_bytes(2, "little") + head})
        with pytest.raises(ArchiveError, match="an array in it cannot be read"):
            Npz(path).read(["x"])


def test_the_same_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as file, pytest.warns(UserWarning, match="Duplicate name"):
        for _ in range(2):
            file.writestr("x.npy", npy_header((0,)))
    with pytest.raises(ArchiveError, match="same name"):
        Npz(tmp_path / "two.npz")


def test_available_memory_heeds_the_limit_of_the_process():
    assert available_memory() > 0
    limit = 3 * 10**9
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
    code += "from hgqjax.archives import available_memory; print(available_memory())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < int(said) < limit


def test_memory_and_depth_are_sentences(capsys):
    def memory():
        raise MemoryError("cannot allocate 8 TB")

    def depth():
        def again(n):
            return again(n + 1)

        again(0)

    assert guarded(memory) == guarded(depth) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("hgqjax: memory is full (cannot allocate 8 TB)") and second.startswith(
        "hgqjax: what was read is nested too deeply"
    )
    with pytest.raises(ArchiveError, match="what takes 1 EB in memory; 3 times that is needed"):
        check_memory(10**18, "what")


def test_a_full_disk_is_said_so(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="No space left on device") as caught, new_folder(tmp_path / "project"):
        raise OSError("1000 requested and 8 written")  # numpy's words
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(OSError, match="No space left on device") as caught, new_folder(tmp_path / "project"):
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")] * 9)  # of a copied tree
    assert caught.value.filename == str(tmp_path / "project") and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="another reason"), new_folder(tmp_path / "project"):
        raise ValueError("another reason")


def test_json_that_is_none():
    for text, message in ((b"{", "is no JSON"), (b"[" * 100_000, "nested too deeply"), (b"\xff", "is no JSON")):
        with pytest.raises(ArchiveError, match=message):
            archives.read_json(text)
    assert archives.read_json(json.dumps({"a": [1]})) == {"a": [1]}


def test_a_json_file_that_is_too_large_is_not_read_whole(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([1] * 10))
    monkeypatch.setattr(archives, "_JSON_LIMIT", 30)
    assert archives.read_json_file(file) == [1] * 10  # 30 bytes
    file.write_bytes(b" " * 10**6)
    read = []
    monkeypatch.setattr(archives, "read_json", lambda text, legal=archives.read_json: (read.append(len(text)), legal(text)))
    with pytest.raises(ArchiveError, match="has more than 30 bytes of JSON"):
        archives.read_json_file(file)
    assert read == [31]


def test_values_of_sound_files_are_those_of_numpy(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.asfortranarray(np.ones((3, 2))), "c": np.array("text"), "d": np.zeros((0, 4))}
    np.savez_compressed(tmp_path / "good.npz", **arrays)
    found = Npz(tmp_path / "good.npz").read(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_text_that_is_none(tmp_path):
    for kind in ("<U1", ">U1"):
        bad = npy_header((2,), kind) + b"\xff" * 8
        with pytest.raises(ArchiveError, match="it holds text with signs that are none"):
            Npz(write_npz(tmp_path / "odd.npz", {"x": bad})).read(["x"])
    np.save(tmp_path / "good.npy", np.array([("ä", 1)], [("name", ">U2"), ("n", "i4")]))
    with (tmp_path / "good.npy").open("rb") as file:
        assert archives.read_npy(file)["name"].tolist() == ["ä"]
