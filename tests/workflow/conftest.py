"""The planted mistakes of ``tests/check`` are run here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "check"))
