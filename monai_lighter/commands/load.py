"""``load``: somebody's bundle on this machine."""

from __future__ import annotations

from monai_lighter.commands.output import format_report

__all__ = ["load"]


def load(
    bundle: str,
    version: str | None = None,
    bundle_dir: str | None = None,
    source: str | None = None,
    repo: str | None = None,
    json: bool = False,
) -> str:
    """Download a bundle, or unpack its zip, and say where it is. Nothing of it is run.

    Example:

        monai-lighter load spleen_ct_segmentation --version 0.5.9

    Args:
        bundle: zip file, address of one, or the name of a bundle.
        version: what its metadata must say; default: the newest that was downloaded before, else the latest there is.
        bundle_dir: where bundles are kept; default: as MONAI's, the folder bundle of torch.hub.
        source: monaihosting, github, ngc, ngc_private or huggingface_hub.
        repo: OWNER/REPOSITORY/RELEASE_TAG for github, OWNER/REPOSITORY for huggingface_hub, org/NAME for ngc_private.
        json: print the report as JSON.
    """
    from monai_lighter.share.layout import Bundle
    from monai_lighter.share.loading import find_bundle

    root = find_bundle(str(bundle), version, bundle_dir, source, repo)
    found = Bundle(root)
    metadata = found.metadata()
    summary = {
        "bundle": str(root),
        "name": metadata.get("name", found.name),
        "version": metadata.get("version", "unknown"),
    }
    configs = sorted(path for path in (root / "configs").iterdir() if path.is_file())
    return format_report(summary, [{"config": path.name, "bytes": path.stat().st_size} for path in configs], json)
