#!/bin/bash
# A fit on several nodes under SLURM that outlives its time limit: sbatch scripts/slurm.sh configs/train.yaml [--ID VALUE …]
#SBATCH --job-name=fit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# five minutes before the limit every process gets SIGTERM: the fit ends after the step, with a checkpoint, and exit code 143
#SBATCH --signal=TERM@300
srun --kill-on-bad-exit=1 monai-lighter fit "$@" --resume auto --trainer::strategy ddp \
    --trainer::devices "$SLURM_NTASKS_PER_NODE" --trainer::num_nodes "$SLURM_NNODES"
code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID" # the same command goes on
fi
exit "$code"
