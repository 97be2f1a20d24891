"""Arguments that Lightning's Trainer had in older versions, and what to write now."""

from __future__ import annotations

import inspect
from typing import Any

from lightning.pytorch import Trainer

__all__ = ["suggest_former"]

CALLBACK = "Write {{_target_: lightning.pytorch.callbacks.{}}} in callbacks"
FORMER = {
    "amp_backend": "Write precision: 16-mixed",
    "amp_level": "Write precision: 16-mixed",
    "auto_lr_find": CALLBACK.format("LearningRateFinder"),
    "auto_scale_batch_size": CALLBACK.format("BatchSizeFinder"),
    "auto_select_gpus": "Write accelerator: gpu, devices: auto",
    "checkpoint_callback": "Write enable_checkpointing: {value}",
    "distributed_backend": "Write strategy: {value}",
    "early_stop_callback": CALLBACK.format("EarlyStopping"),
    "flush_logs_every_n_steps": "Give it to the logger",
    "log_gpu_memory": CALLBACK.format("DeviceStatsMonitor"),
    "move_metrics_to_cpu": "Leave it out",
    "multiple_trainloader_mode": "Give a lightning.pytorch.utilities.CombinedLoader as system::dataloaders::train",
    "num_processes": "Write accelerator: cpu, devices: {value}",
    "prepare_data_per_node": "Leave it out",
    "process_position": CALLBACK.format("TQDMProgressBar"),
    "progress_bar_refresh_rate": CALLBACK.format("TQDMProgressBar"),
    "replace_sampler_ddp": "Write use_distributed_sampler: {value}",
    "resume_from_checkpoint": "Write args::fit::ckpt_path: {value}",
    "stochastic_weight_avg": CALLBACK.format("StochasticWeightAveraging"),
    "terminate_on_nan": "Write detect_anomaly: {value}, or leave it out: a loss that is NaN ends a fit",
    "tpu_cores": "Write accelerator: tpu, devices: {value}",
    "track_grad_norm": "Leave it out",
    "truncated_bptt_steps": "Leave it out",
    "weights_save_path": "Write default_root_dir: {value}",
    "weights_summary": "Write enable_model_summary: true, or false",
}
GPUS = "gpus"


def suggest_former(target: Any, key: str, value: Any) -> str | None:
    """What to write for an argument that Lightning's Trainer had; None for any other, and for another class.

    Args:
        target: class that has no such argument.
        key: name of the argument.
        value: that it was given.
    """
    if not (inspect.isclass(target) and issubclass(target, Trainer)):
        return None
    if key == GPUS:
        return "Write accelerator: cpu." if value in (0, None, "0") else f"Write accelerator: gpu, devices: {value}."
    return FORMER[key].replace("{value}", str(value)) + "." if key in FORMER else None
