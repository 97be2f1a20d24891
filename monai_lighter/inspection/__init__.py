"""What a stranger's bundle would do, found without running anything of it (`inspect`); what it is (`bundle_digest`)."""

from monai_lighter.inspection.bundle import inspect
from monai_lighter.inspection.digest import bundle_digest, run_digest
from monai_lighter.inspection.report import Entry, Level, Report

__all__ = ["Entry", "Level", "Report", "bundle_digest", "inspect", "run_digest"]
