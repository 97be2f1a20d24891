"""Small data sets of real files, as hospitals and challenges lay them out."""

import json

import nibabel
import numpy as np
import pytest


def write(path, array, spacing):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, *[1] * (4 - len(spacing))])), path)


def ball(shape, random, classes=2):
    """A label map with a ball; of more classes, its core is the next."""
    centre = [random.integers(size // 3, size - size // 3) for size in shape]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = sum(((axis - middle) / (size / 4)) ** 2 for axis, middle, size in zip(grid, centre, shape, strict=True))
    return sum((distance < 1 / step).astype(np.uint8) for step in range(1, classes))


class Sets:
    """Writes data sets below a folder; each is another folder."""

    def __init__(self, folder):
        self.folder = folder

    def ct(self, count=6, name="ct"):
        """nnU-Net's layout, 5 mm slices; every other case has the lesion (class 2)."""
        random, root = np.random.default_rng(0), self.folder / name
        for i in range(count):
            label = ball((48, 40, 10 + i % 3), random, 3 if i % 2 else 2)
            image = np.where(label, 60.0 + 40.0 * label, -1000.0) + random.normal(0, 15, label.shape)
            spacing = (0.8 + 0.05 * i, 0.8 + 0.05 * i, 4 + 0.5 * i)
            write(root / "imagesTr" / f"liver_{i:03}_0000.nii.gz", image.astype(np.int16), spacing)
            write(root / "labelsTr" / f"liver_{i:03}.nii.gz", label, spacing)
        return root

    def mr(self, count=5):
        """The layout of BIDS, two channels a case; two sessions of the first subject; label maps in derivatives."""
        random, root = np.random.default_rng(1), self.folder / "mr"
        places = [("sub-01", "ses-1"), ("sub-01", "ses-2"), *((f"sub-{i:02}", "ses-1") for i in range(2, count + 1))]
        for subject, session in places:
            label = ball((24, 26, 28), random)
            stem = f"{subject}/{session}/anat/{subject}_{session}"
            for kind in ("T1w", "FLAIR"):
                image = (300.0 * label + random.normal(500, 50, label.shape)).astype(np.float32)
                write(root / f"{stem}_{kind}.nii.gz", image, (1, 1, 1))
            write(root / "derivatives" / f"{stem}_dseg.nii.gz", label, (1, 1, 1))
        return root

    def flat(self, count=3):
        """2D, images and labels."""
        random, root = np.random.default_rng(2), self.folder / "flat"
        for i in range(count):
            label = ball((60, 50), random)
            image = (100.0 * label + random.normal(50, 10, label.shape)).astype(np.float32)
            write(root / "images" / f"scan_{i}.nii.gz", image, (0.5, 0.5))
            write(root / "labels" / f"scan_{i}.nii.gz", label, (0.5, 0.5))
        return root

    def decathlon(self):
        root = self.ct(name="decathlon")
        names = sorted(path.name for path in (root / "labelsTr").iterdir())
        listed = [{"image": f"./imagesTr/{n[:-7]}_0000.nii.gz", "label": f"./labelsTr/{n}"} for n in names]
        told = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "tumour"}, "training": listed}
        (root / "dataset.json").write_text(json.dumps(told))
        return root

    def classes(self):
        """A folder a class, three times as many of one."""
        random, root = np.random.default_rng(3), self.folder / "classes"
        for name, count in {"benign": 12, "malignant": 4}.items():
            for i in range(count):
                image = random.normal(100 if name == "benign" else 200, 10, (40, 36 + i % 3)).astype(np.float32)
                write(root / name / f"{name}_{i}.nii.gz", image, (1, 1))
        return root

    def table(self, ages=True, count=8):
        """A table of two scans a patient."""
        random, root = np.random.default_rng(4), self.folder / "table"
        rows = ["image,label,patient"]
        for i in range(count):
            write(root / f"{i}.nii.gz", random.normal(i, 1, (20, 22, 24)).astype(np.float32), (2, 2, 2))
            rows.append(f"{i}.nii.gz,{40.5 + i if ages else 'ill' if i < 4 else 'well'},p{i // 2}")
        (root / "cases.csv").write_text("\n".join(rows) + "\n")
        return root / "cases.csv"


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """Each is written once, and must not be changed."""
    return Sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def own_sets(tmp_path):
    return Sets(tmp_path)
