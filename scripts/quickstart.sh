#!/usr/bin/env bash
# From a fresh clone to a segmented brain, no GPU needed: installs, trains the bundle, measures the network, applies it.
# Arguments are passed on to the training (--max_epochs 20).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment examples

bundle=bundles/brain_tissue_segmentation
cd "$bundle"
stage() {
    python -m monai.bundle run "$1" --workflow monai_lighter.Workflow --config_file "configs/$2.yaml" "${@:3}"
}
stage fit train "$@"
stage test evaluate
stage predict inference

python scripts/overlay.py data/right_image.nii.gz eval/right_image_pred.nii.gz eval/right_image_pred.png
awk -F, 'NR > 1 { sum += $4 } END { printf "\nmean Dice of grey and white matter: %.3f\n", sum / (NR - 1) }' eval/dice.csv
echo "all of it is in $bundle:"
echo "  weights       models/model.pt"
echo "  curves        $(ls -td lightning_logs/*/curves.png | head -1)"
echo "  label map     eval/right_image_pred.nii.gz"
echo "  picture       eval/right_image_pred.png"
