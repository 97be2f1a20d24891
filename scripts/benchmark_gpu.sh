#!/bin/bash
# What is measured on a GPU, in less than 8 minutes: tables for docs/performance.md, to standard output.
set -e
cd "$(dirname "$0")/.."
python scripts/benchmark.py --device cuda --repetitions 2 --amp --channels_last --pin_memory
python scripts/benchmark.py --device cuda --repetitions 1 --amp --compile
python scripts/benchmark_predict.py --device cuda --repetitions 2 --amp --channels_last --pin_memory
python scripts/benchmark_label_inferer.py --device cuda --size 192 --classes 100 --roi_size 64
python scripts/benchmark_label_inferer.py --device cuda --size 192 --classes 100 --roi_size 64 --members 5
