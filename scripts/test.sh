#!/usr/bin/env bash
# Environment, install, lint, types and all tests. Arguments are passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment dev
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1
python -m pytest -n 2 --dist loadfile --cov --cov-report=term "$@"
