import os
import socket
from pathlib import Path

import preloaded
import pytest
import torch
from lightning.pytorch import Trainer


@pytest.mark.slow
def test_sharded_weights_are_written_whole_and_gone_on_with(tmp_path):
    """Two processes come to the weights of one, through a checkpoint; one of them has no third case to validate on."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    base |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, environments in ((one, [alone]), (two, [{**base, "RANK": r, "LOCAL_RANK": r} for r in "01"])):
        words = ["-m", "sharded_run", str(folder), str(len(environments))]
        done = preloaded.run_together([(words, tmp_path, each) for each in environments], 120)
        assert [each.returncode for each in done] == [0] * len(done), done[-1].stderr[-3000:]
    for name in ("model.pt", "model_last.pt"):
        single, double = (torch.load(folder / "models" / name, weights_only=True) for folder in (one, two))
        assert single.keys() == double.keys()
        for key, value in single.items():
            assert torch.allclose(double[key], value, atol=1e-5), (name, key)


def test_fsdp_of_one_wrapper_needs_a_gpu():
    with pytest.raises(ValueError, match="requires a GPU accelerator"):
        Trainer(accelerator="cpu", devices=2, strategy="fsdp")
