#!/usr/bin/env bash
# From a fresh clone to a segmented brain, no GPU needed: installs, trains the bundle, measures the network, applies it.
# Arguments are passed on to the training (--max_epochs 20).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment examples

bundle=bundles/brain_tissue_segmentation
stage() {
    python -m monai.bundle run "$1" --workflow monai_lighter.Workflow --config_file "$bundle/configs/$2.yaml" "${@:3}"
}
stage fit train "$@"
stage test evaluate
stage predict inference

picture="$bundle/eval/right_image_pred.png"
python "$bundle/scripts/overlay.py" "$bundle/data/right_image.nii.gz" "$bundle/eval/right_image_pred.nii.gz" "$picture"
awk -F, 'NR > 1 { sum += $4 } END { printf "mean Dice of grey and white matter: %.3f\n", sum / (NR - 1) }' "$bundle/eval/dice.csv"
echo "weights:   $bundle/models/model.pt"
echo "label map: $bundle/eval/right_image_pred.nii.gz"
echo "picture:   $picture"
