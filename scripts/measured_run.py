"""What `compare_engines.py` runs in a process of its own: a bundle's command, writing down how long each engine ran.

python scripts/measured_run.py REPORT run --config_file ...
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events


def measure_engines(report: Path) -> None:
    """Gives every engine two handlers, and writes a list of the runs that are not run by another engine.

    Each has the name of the ``engine``, its ``seconds`` from ``STARTED`` to ``COMPLETED``, and whether ``lightning`` drove it.
    """
    runs: list[dict[str, Any]] = []
    started: list[float] = []
    build = Engine.__init__

    def begin(engine: Engine) -> None:
        started.append(time.perf_counter())

    def end(engine: Engine) -> None:
        seconds = time.perf_counter() - started.pop()
        if not started:
            lightning = any(base.__module__.startswith("monai_lighter.") for base in type(engine).__mro__)
            runs.append({"engine": type(engine).__name__, "seconds": seconds, "lightning": lightning})
            report.write_text(json.dumps(runs))

    def measured(self: Engine, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.add_event_handler(Events.STARTED, begin)
        self.add_event_handler(Events.COMPLETED, end)

    Engine.__init__ = measured  # type: ignore[method-assign]
    report.write_text("[]")


if __name__ == "__main__":
    measure_engines(Path(sys.argv[1]))
    sys.argv = ["monai.bundle", *sys.argv[2:]]
    sys.path[0] = ""  # as with python -m: the folder of the bundle, not that of this file
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
