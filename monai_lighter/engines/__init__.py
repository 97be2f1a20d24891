"""MONAI's Ignite engines on Lightning's Trainer. Needs the extra ``zoo`` (pytorch-ignite)."""

from monai.utils import optional_import

_, has_ignite = optional_import("ignite.engine")
if not has_ignite:
    raise ImportError("MONAI's engines need pytorch-ignite, which is not installed: pip install 'monai_lighter[zoo]'.")
