"""Pickles where a reader that trusts names, sizes or `pickletools` does not see them."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from planted import checked, touch

from monai_lighter.inspection import inspect, pickles, weights

LOADERS = {
    "torch": "import torch; torch.load(sys.argv[1], weights_only=False)",
    "pickle": "import pickle; pickle.load(open(sys.argv[1], 'rb'))",
    "gzip": "import gzip, pickle; pickle.load(gzip.open(sys.argv[1]))",
    "numpy": "import numpy; loaded = numpy.load(sys.argv[1], allow_pickle=True)\n"
    "[loaded[name] for name in getattr(loaded, 'files', ())]",
}


def payload(marker):
    return f'cos\nsystem\n(S"{touch(marker)}"\ntR.'.encode()


def fires(path, loader, marker):
    """Loads a file in another process, sees that it fires, and takes the marker away."""
    subprocess.run(
        [sys.executable, "-c", f"import sys\n{LOADERS[loader]}", str(path)], capture_output=True, check=False
    )
    assert marker.exists()
    marker.unlink()


def zipped(members, start=b""):
    content = io.BytesIO(start)
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "a") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def archived(data):
    return zipped({"archive/data.pkl": data, "archive/version": "3", "archive/byteorder": "little"})


def appended(data):
    content = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, content)
    return data + content.getvalue()


def old_tar(data):
    """A tar file as of 1979, without a magic number."""
    head = bytearray(512)
    head[:8], head[100:108], head[124:136], head[156] = b"storages", b"0000644\0", b"%011o\0" % len(data), ord("0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data.ljust(-(-len(data) // 512) * 512, b"\0") + bytes(1024)


FILES = {
    "a zip file behind it": ("model.pt", "torch", appended),
    "in front of a zip file": ("model.pt", "torch", lambda data: zipped({"archive/data.pkl": pickle.dumps(1)}, data)),
    "behind a hexadecimal number": ("model.pkl", "pickle", lambda data: b"I0x1\n0" + data),
    "behind a hexadecimal number, odd name": ("prior.dat", "pickle", lambda data: b"I0x1\n0" + data),
    "behind a number with a zero byte": ("prior.dat", "pickle", lambda data: b"F1.5\0x\n0" + data),
    "behind a long text": ("prior.dat", "pickle", lambda data: b"V" + b"x" * 100_000 + b"\n0" + data),
    "behind a hexadecimal number, zipped": ("model.pt", "torch", lambda data: archived(b"I0x1\n0" + data)),
    "old tar": ("model.pt", "torch", old_tar),
    "tar whose name is a pickle": (
        "model.pt",
        "pickle",
        lambda data: tarred(data.decode(), b""),
    ),
    "safetensors by name": ("model.safetensors", "pickle", lambda data: data),
    "second gzip member": ("model.pkl.gz", "gzip", lambda data: gzip.compress(b"N0") + gzip.compress(data)),
}


def tarred(name, data):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


@pytest.mark.parametrize("kind", FILES)
def test_hidden_pickle(kind, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short name for what must fit into the name of a file in an archive
    marker = tmp_path / "marker"
    name, loader, made = FILES[kind]
    (bundle / "models" / name).write_bytes(made(b"cos\nsystem\n(S'touch marker'\ntR."))
    fires(bundle / "models" / name, loader, marker)
    checked(bundle, marker, "os.system")


@pytest.mark.parametrize("name", ["model.pt", "prior.dat"])
def test_pickle_of_too_many_opcodes(name, bundle, marker, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    (bundle / "models" / name).write_bytes(b"\x80\x02" + b"N0" * 1000 + payload(marker))
    fires(bundle / "models" / name, "pickle", marker)
    checked(bundle, marker, "os.system", "nothing is known of it")


def test_too_many_pickles(bundle, marker):
    (bundle / "models/model.pt").write_bytes(pickle.dumps(1) * 101 + payload(marker))
    checked(bundle, marker, "os.system", "nothing is known of it")


def test_names_by_way_of_texts_behind_a_limit(bundle, marker, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    code = b"\x80\x04" + b"N0" * 1000 + b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c\x04true\x85R."
    (bundle / "models/prior.dat").write_bytes(code)
    checked(bundle, marker, "posix.system")


def test_member_that_is_too_large(bundle, marker, monkeypatch):
    monkeypatch.setattr(weights, "MAX_PICKLE", 1000)
    (bundle / "models/model.pt").write_bytes(archived(b"N0" * 1000 + payload(marker)))
    fires(bundle / "models/model.pt", "torch", marker)
    checked(bundle, marker, "models/model.pt!archive/data.pkl", "nothing is known of it")


def test_pickles_between_raw_numbers_of_a_tar(bundle, marker):
    data = pickle.dumps(1, 2) + bytes(range(256)) + payload(marker)
    (bundle / "models/model.pt").write_bytes(tarred("storages", data))
    checked(bundle, marker, "os.system")


def test_zip_file_that_is_cut(bundle, marker):
    (bundle / "models/model.pt").write_bytes(archived(payload(marker))[:-30])
    checked(bundle, marker, "broken zip")


def array(descr, data):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data


@pytest.mark.parametrize("descr", ["\n'|O'", "'object'", "'|\\x4f'", "'O8'"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "data.npz"])
def test_array_of_objects(descr, name, bundle, marker):
    data = array(descr, payload(marker))
    members = {"a.npz": {"a.npy": data}, "data.npz": {"data/0": data, "b.npy": array("'<i4'", bytes(4))}}
    (bundle / "models" / name).write_bytes(zipped(members[name]) if name in members else data)
    fires(bundle / "models" / name, "numpy", marker)
    checked(bundle, marker, "os.system")


def test_array_in_an_array_type_that_nobody_knows(bundle, marker):
    (bundle / "models/a.npy").write_bytes(array("f()", b""))
    (bundle / "models/b.npy").write_bytes(b"\x93NUMPY\x09\0" + bytes(100))
    checked(bundle, marker, "models/a.npy", "models/b.npy")


def test_harmless_arrays_and_numbers(bundle):
    models = bundle / "models"
    np.save(models / "a.npy", np.array([(1, "O")], dtype=[("O", "i4"), ("b", "U3")]))
    np.savez_compressed(models / "b.npz", a=np.array(["O", "object"]), b=np.zeros((2, 3), bool))
    for seed in range(20):
        (models / f"{seed}.raw").write_bytes(np.random.default_rng(seed + 100).bytes(10_000))
    report = inspect(bundle)
    assert report.exit_code == 0, str(report)


@pytest.mark.parametrize("protocol", range(6))
def test_lenient_reading_sees_what_strict_reading_sees(protocol):
    content = {"a": [1, 2.5, None, True, b"x" * 300, "\u00e9" * 70_000, 2**100, -5, {1}, bytearray(b"z")]}
    data = pickle.dumps([content, np.zeros(3), os.path.join], protocol=protocol)
    expected = [(opcode.name, position) for opcode, _, position in pickles.pickletools.genops(data)]
    found = [(opcode.name, position) for opcode, _, position in pickles.opcodes(io.BytesIO(data))]
    assert found == expected
    assert pickles.scan_bytes(data).complete == 1
    assert "posixpath.join" in [entry.name for entry in pickles.scan_bytes(data).globals]
