"""Files of weights: those that hold tensors alone are data, all others are named, and none is loaded that could run something."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from escapes import touch

from monai_lighter.trust.contents import list_code_files


class Evil:
    """Fires when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (touch(self.marker),)


def kinds(bundle, marker):
    found = {file.file: file.what for file in list_code_files(bundle)}
    assert not marker.exists()
    return found


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


def tarred(name, data, mode="w"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def legacy(data):
    content = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, content, _use_new_zipfile_serialization=False)
    return content.getvalue().replace(b"}", data, 1)


HOSTILE = {
    "zip": archived,
    "pickle": lambda data: data,
    "in front of a zip file": lambda data: zipped({"archive/data.pkl": pickle.dumps(1)}, data),
    "before weights": appended,
    "behind a hexadecimal number": lambda data: archived(b"I0x1\n0" + data),
    "behind a long text": lambda data: archived(b"V" + b"x" * 100_000 + b"\n0" + data),
    "broken behind what fires": lambda data: archived(data[:-1] + b"\xff\xff"),
    "tar": lambda data: tarred("pickle", data),
    "tar of storages": lambda data: tarred("storages", data),
    "many pickles": lambda data: pickle.dumps(1) * 101 + data,
    "cut": lambda data: archived(data)[:-30],
    "second archive": lambda data: zipped({"a/data.pkl": pickle.dumps(1)}) + archived(data),
    "legacy": legacy,
    "no pickle": lambda data: b"x" * 100,
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "pytorch_model.bin"])
def test_weights_that_torch_would_refuse(kind, name, bundle, marker):
    (bundle / "models" / name).write_bytes(HOSTILE[kind](f'cos\nsystem\n(S"{touch(marker)}"\ntR.'.encode()))
    found = kinds(bundle, marker)
    assert [*found] == [f"models/{name}"]


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_checkpoint_would_import_is_named(zipped, bundle, marker):
    content = {"state_dict": {"w": torch.zeros(2)}, "x": Evil(marker)}
    torch.save(content, bundle / "models/model.ckpt", _use_new_zipfile_serialization=zipped)
    what = kinds(bundle, marker)["models/model.ckpt"]
    assert what == ("a pickle of posix.system" if zipped else "refused by torch.load(weights_only=True)")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.pkl", "model", "model.joblib", "model.pickle", "model.th"])
def test_pickles_under_other_names(protocol, name, bundle, marker):
    (bundle / "models" / name).write_bytes(pickle.dumps(Evil(marker), protocol=protocol))
    assert [*kinds(bundle, marker)] == [f"models/{name}"]


def test_weights_are_data(bundle, marker):
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    optimizer = torch.optim.AdamW(network.parameters())
    checkpoint = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "n": OrderedDict(a=1),
        "s": {1},
    }
    torch.save(network.state_dict(), bundle / "models/model.pt")
    torch.save(checkpoint, bundle / "models/old.ckpt", _use_new_zipfile_serialization=False)
    torch.save(checkpoint, bundle / "models/new.ckpt")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (bundle / "models/m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    np.save(bundle / "models/a.npy", np.array([(1, "O")], dtype=[("O", "i4"), ("b", "U3")]))
    np.savez_compressed(bundle / "models/b.npz", a=np.array(["O", "object"]), b=np.zeros((2, 3), bool))
    assert kinds(bundle, marker) == {}


def test_torchscript(bundle, marker):
    network = torch.jit.script(torch.nn.Linear(2, 2))
    for name in ("model.ts", "model.pt"):
        network.save(bundle / "models" / name)
    assert kinds(bundle, marker) == {"models/model.ts": "TorchScript", "models/model.pt": "TorchScript"}


def array(descr, data=b""):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data


@pytest.mark.parametrize("descr", ["\n'|O'", "'object'", "'|\\x4f'", "'O8'", "[('a', 'O')]", "f()"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "data.npz"])
def test_arrays_of_objects(descr, name, bundle, marker):
    data = array(descr, pickle.dumps(Evil(marker)))
    members = {"a.npz": {"a.npy": data}, "data.npz": {"data/0": data, "b.npy": array("'<i4'", bytes(4))}}
    (bundle / "models" / name).write_bytes(zipped(members[name]) if name in members else data)
    assert [*kinds(bundle, marker)] == [f"models/{name}"]


def test_arrays_that_are_broken(bundle, marker):
    (bundle / "models/a.npy").write_bytes(pickle.dumps(Evil(marker)))
    (bundle / "models/b.npy").write_bytes(b"\x93NUMPY\x09\0" + bytes(100))
    (bundle / "models/c.npz").write_bytes(b"PK")
    assert {*kinds(bundle, marker)} == {"models/a.npy", "models/b.npy", "models/c.npz"}
