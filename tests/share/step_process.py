"""Peak of the memory of a training step in MiB, above what there was before the network: ``python -m step_process JSON``."""

import json
import sys

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet

from monai_lighter.trace import memory

LOSS = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)


def take_step(layers, shape):
    memory.TIMES = 1
    before = memory.measure_step(lambda: None, torch.device("cpu"))["memory"]
    model = DynUNet(len(shape) - 2, 1, 2, **layers)
    optimizer = torch.optim.AdamW(model.parameters())
    image, target = torch.rand(shape), torch.randint(0, 2, shape).float()

    def step():
        optimizer.zero_grad()
        LOSS(model(image), target).backward()
        optimizer.step()

    step()
    after = memory.measure_step(step, torch.device("cpu"))["memory"]
    return int(after.split()[0]) - int(before.split()[0])


if __name__ == "__main__":
    print(take_step(*json.loads(sys.argv[1])))
