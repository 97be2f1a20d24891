"""Hostile files of weights: pickles, TorchScript, native code."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import checked, touch

from monai_lighter.inspection import Level, inspect


class Evil:
    """Fires when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.pkl", "notes.txt"])
def test_pickle(protocol, name, bundle, marker):
    data = pickle.dumps(Evil(os.system, touch(marker)), protocol=protocol)
    if name == "model.pkl":
        pickle.loads(data)
        assert marker.exists()
        marker.unlink()
    (bundle / "models" / name).write_bytes(data)
    checked(bundle, marker, "posix.system")


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint(zipped, bundle, marker):
    content = {"state_dict": {"w": torch.zeros(2)}, "x": Evil(os.system, touch(marker))}
    torch.save(content, bundle / "models/model.ckpt", _use_new_zipfile_serialization=zipped)
    checked(bundle, marker, "posix.system")


def test_checkpoint_of_the_oldest_kind(bundle, marker):
    data = pickle.dumps(Evil(os.system, touch(marker)), protocol=2)
    with tarfile.open(bundle / "models/model.pt", "w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    checked(bundle, marker, "posix.system")


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R.",  # names by way of the memo
        b"\x80\x04\x8c\x05torch\x94\x8c\x09os.system\x94\x93\x8c\x04true\x85R.",  # a path of attributes
        b"cnt\nsystem\n(S'true'\ntR.",  # Windows
        b"ccommands\ngetoutput\n(S'true'\ntR.",  # Python 2
        b"(S'true'\nios\nsystem\n.",  # INST
        b"cbuiltins\ngetattr\n.",
        b"ctorch.hub\nload\n.",
        b"cnumpy.testing._private.utils\nrunstring\n.",
        b"\x80\x04cbuiltins\nstr\n\x85R\x8c\x06system\x93.",  # a name that is computed
        b"cos\nsystem\n(S'true'\ntR\xff\xff",  # broken behind what fires
        b"coperator\nitemgetter\n.",
        b"cstring\nFormatter\n.",
        b"\x80\x04\x8c\x06string\x8c\x13Formatter.get_field\x93.",
        b"cglob\nfnmatch\n.",  # a module
        b"\x80\x04\x8c\x05torch\x8c\x02nn\x93.",
        b"cmonai.transforms\nLoadImage\n.",  # calls what its first argument names
    ],
)
def test_pickle_opcodes(code, bundle, marker):
    (bundle / "models/model.pt").write_bytes(code)
    checked(bundle, marker, "pickle models/model.pt")


def test_weights_are_harmless(bundle):
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    optimizer = torch.optim.AdamW(network.parameters())
    checkpoint = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "n": np.float64(1),
        "a": np.ones(2),
        "more": [Path("x"), datetime.now(), {1}, Decimal(1), defaultdict(list), 1j, bytearray(b"x"), slice(1)],
    }
    torch.save(network.state_dict(), bundle / "models/model.pt")
    torch.save(checkpoint, bundle / "models/old.ckpt", _use_new_zipfile_serialization=False)
    torch.save(checkpoint, bundle / "models/new.ckpt")
    np.savez(bundle / "models/x.npz", a=np.ones(3))
    report = inspect(bundle)
    assert report.exit_code == 0, str(report)
    assert any("OrderedDict" in entry.why for entry in report.entries)


def test_arrays_of_objects(bundle, marker):
    array = np.array([Evil(os.system, touch(marker))], dtype=object)
    np.save(bundle / "models/a.npy", array, allow_pickle=True)
    np.savez(bundle / "models/b.npz", a=array)
    report = checked(bundle, marker, "models/a.npy", "models/b.npz!a.npy")
    assert all("posix.system" in entry.what for entry in report.at(Level.DANGER))


def tarred(data):
    buffer, info = io.BytesIO(), tarfile.TarInfo("a.pkl")
    info.size = len(data)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress,
        lambda data: gzip.compress(gzip.compress(data)),
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
        lambda data: bz2.compress(lzma.compress(data)),
        tarred,
        lambda data: gzip.compress(tarred(data)),
    ],
)
def test_compressed_pickle(packed, bundle, marker):
    (bundle / "models/model.gz").write_bytes(packed(pickle.dumps(Evil(os.system, touch(marker)))))
    checked(bundle, marker, "posix.system")


def test_pickle_in_a_database(bundle, marker):
    data = bytes(4096) + pickle.dumps(Evil(os.system, touch(marker))) + bytes(100)
    (bundle / "models/monai_cache.lmdb").write_bytes(data)
    checked(bundle, marker, "posix.system")


def test_compressed_so_often_that_it_is_not_read(bundle):
    data = b"x"
    for _ in range(7):
        data = gzip.compress(data)
    (bundle / "models/model.gz").write_bytes(data)
    assert "compressed more than" in str(inspect(bundle).at(Level.LOOK))


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)


def test_checkpoints_whose_records_are_odd(bundle, marker):
    evil = pickle.dumps(Evil(os.system, touch(marker)))
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(bundle / "models/a.pt", [("x/data.pkl", pickle.dumps(1)), ("x/data.pkl", evil)])
    zipped(bundle / "models/b.pt", [("x/data.pkl", pickle.dumps(1)), ("x/extra", evil)])
    data = bytearray((bundle / "models/b.pt").read_bytes())
    data[data.index(b"K\x01.") + 1] ^= 1  # a wrong checksum stops zipfile, and not PyTorch
    (bundle / "models/c.pt").write_bytes(data)
    (bundle / "models/d.pt").write_bytes(data[:-30])
    checked(bundle, marker, "duplicate", "models/b.pt!x/extra", "models/c.pt!x/data.pkl")


def test_torchscript(bundle, marker):
    class Writer(torch.nn.Module):
        def forward(self, x):
            torch.save(x, "x.pt")
            return x

    network = torch.jit.script(torch.nn.Linear(2, 2))
    network.save(bundle / "models/model.ts")
    report = inspect(bundle)
    assert [entry.kind for entry in report.at(Level.LOOK)] == ["torchscript"]
    assert report.exit_code == 1
    with zipfile.ZipFile(bundle / "models/model.ts", "a") as archive:
        archive.writestr(
            "model/code/__torch__/more.py", "def forward(x):\n  _0 = torch.save(x, '/tmp/x')\n  return x\n"
        )
        archive.writestr("model/constants2.pkl", pickle.dumps(Evil(os.system, touch(marker))))
    checked(bundle, marker, "torchscript models/model.ts!model/code/__torch__/more.py", "posix.system")


def test_torch_package_and_native_code(bundle, marker):
    zipped(bundle / "models/p.pt", [("p/data.pkl", pickle.dumps(1)), ("p/evil.py", "import os")])
    (bundle / "models/lib.so").write_bytes(b"\x7fELF" + bytes(100))
    checked(bundle, marker, "torch.package", "native code")


def test_safetensors(bundle):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (bundle / "models/m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (bundle / "models/n.safetensors").write_bytes(b"\xff" * 9)
    by_file = {entry.file: entry.level for entry in inspect(bundle).entries}
    assert by_file == {"models/m.safetensors": Level.OK, "models/n.safetensors": Level.LOOK}
