"""The trace of a config that the static check has passed."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from monai.utils import ensure_tuple, optional_import, set_determinism

from monai_lighter.config.resolver import LOCATOR, Resolver
from monai_lighter.config.stages import STAGES
from monai_lighter.errors import BundleError
from monai_lighter.trace.dry_config import make_dry_config, silence_trainer
from monai_lighter.trace.rows import Rows, TraceError, explain_failure
from monai_lighter.trace.step import trace_stage
from monai_lighter.workflow.prepare import Prepared
from monai_lighter.workflow.screen import Screen

__all__ = ["Trace"]

_, has_engines = optional_import("ignite.engine")
if has_engines:
    from monai_lighter.trace.iteration import trace_engine


class Trace:
    """One case on its way through a config: transforms, network, loss, postprocessing, metrics, and a measured step.

    The data pipeline and the network are built, and run. What handles events (callbacks, handlers, loggers) or writes files
    (``SaveImaged``) is left out, and so are the ``initialize`` expressions. Weights need not be there yet. Lazy resampling is
    not used, so that each transform can be seen.

    Args:
        prepared: the config, without errors.
        stage: of a native config; by default ``fit``, else the first that it has.
        case: index of the case in the data of the stage.

    Attributes:
        stage: the stage, or the run id.
        rows: what each step made of the case.
        steps: mode, or config id of an engine, to ``seconds`` and ``memory`` of one step.
        error: what went wrong, with the step and the case; then rows end before it.
    """

    def __init__(self, prepared: Prepared, stage: str | None = None, case: int = 0) -> None:
        stages = [name for name in prepared.built if name in STAGES]
        self.stage = stage or (stages[0] if prepared.native else next(iter(prepared.built)))
        self.rows, self.steps, self.error = Rows(), dict[str, Any](), ""
        try:
            with Screen().show():
                self.steps = self._run(prepared, case)
        except BundleError as error:
            self.error = str(error)
        except Exception as error:
            self.error = str(explain_failure(self.stage, error))

    def _run(self, prepared: Prepared, case: int) -> dict[str, Any]:
        parser = ConfigParser(make_dry_config(prepared.needed[self.stage], LOCATOR, case))
        parser.locator, parser.ref_resolver = LOCATOR, Resolver()
        if not prepared.native:
            texts = " ".join(map(str, ensure_tuple(parser.get(self.stage))))
            if not has_engines:
                raise TraceError("a config of engines needs pytorch-ignite: pip install 'monai_lighter[zoo]'.")
            return trace_engine(self.rows, parser, list(ReferenceResolver.match_refs_pattern(f"${texts}")))
        silence_trainer(parser.get())
        if parser.get("seed") is not None:
            set_determinism(int(parser.get_parsed_content("seed")))
        return trace_stage(self.rows, parser, self.stage)
