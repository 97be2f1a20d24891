#!/usr/bin/env bash
# Environment, install, lint, types and tests. `scripts/test.sh` runs all tests, disturbs some runs (`faults.py`) and measures
# what of the package the tests run; `scripts/test.sh fast` leaves out the types, the faults and the tests that start a process,
# a Trainer or an engine or take long. Further arguments are passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment dev
export OMP_NUM_THREADS=1
ruff check .
ruff format --check .
# each test goes to the worker that is free, as tests/tiers.py has it
pytest=(python -m pytest -n 2 --dist loadscope --no-loadscope-reorder)
if [ "${1:-}" = fast ]; then
    exec "${pytest[@]}" -m "not slow" "${@:2}"
fi
mypy
python scripts/faults.py --short
exec "${pytest[@]}" --cov --cov-report=term "$@"
