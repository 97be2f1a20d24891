"""A tiny bundle with folds: twelve small images, of which each trial takes seconds."""

import nibabel
import numpy as np
import yaml

CONFIG = {
    "imports": ["$import glob"],
    "bundle_root": ".",
    "seed": 3,
    "fold": 0,
    "width": 4,
    "learning_rate": 0.01,
    "max_epochs": 2,
    "report": False,
    "images": "$sorted(glob.glob(@bundle_root + '/data/image_*.nii.gz'))",
    "cases": "$[{'image': file, 'label': file.replace('image', 'label')} for file in @images]",
    "folds": {
        "_target_": "monai_lighter.Folds",
        **{"data": "@cases", "fold": "@fold", "n_splits": 3, "path": "$@bundle_root + '/splits.json'"},
    },
    "load": {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True},
    "flip": {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5},
    "network": {
        **{"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2},
        **{"channels": ["@width", 8], "strides": [2], "dropout": 0.1},
    },
    "system": {
        "model": "@network",
        "criterion": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": "@learning_rate"},
        "metrics": {"val": {"dice": {"_target_": "DiceMetric", "include_background": False}}},
        "postprocessing": {
            "val": {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2}
        },
        "dataloaders": {
            "train": {
                "_target_": "DataLoader",
                "batch_size": 2,
                "shuffle": True,
                "dataset": {
                    "_target_": "Dataset",
                    "data": "$@folds.train",
                    "transform": {"_target_": "Compose", "transforms": ["@load", "@flip"]},
                },
            },
            "val": {
                "_target_": "DataLoader",
                "batch_size": 1,
                "dataset": {"_target_": "Dataset", "data": "$@folds.val", "transform": "@load"},
            },
        },
    },
    "trainer": {"max_epochs": "@max_epochs", "accelerator": "cpu", "default_root_dir": "@bundle_root"},
}


def write_bundle(root, config=CONFIG, cases=12):
    """A bundle in a folder; gives the path of its config."""
    random = np.random.default_rng(0)
    (root / "data").mkdir(parents=True)
    (root / "configs").mkdir()
    for i in range(cases):
        label = np.zeros((16, 16), np.uint8)
        label[i % 5 : i % 5 + 8, 3 : 9 + i % 4] = 1
        for kind, image in (("image", label + random.normal(0, 0.4, (16, 16))), ("label", label)):
            nibabel.save(
                nibabel.Nifti1Image(image.astype(np.float32), np.eye(4)), root / "data" / f"{kind}_{i:02}.nii.gz"
            )
    path = root / "configs" / "train.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
