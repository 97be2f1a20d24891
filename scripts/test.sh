#!/usr/bin/env bash
# Environment, install, lint, types and tests. `scripts/test.sh` runs all tests and measures what of the package they run;
# `scripts/test.sh fast` leaves out those that start a process, a Trainer or an engine. Further arguments are passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment dev
tier=(--cov --cov-report=term)
if [ "${1:-}" = fast ]; then
    tier=(-m "not slow")
    shift
fi
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1
# each test goes to the worker that is free, in the order of tests/tiers.py
python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder "${tier[@]}" "$@"
