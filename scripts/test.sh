#!/usr/bin/env bash
# Environment, install, lint, types and tests. `scripts/test.sh` runs all tests and disturbs some runs (`faults.py`);
# `scripts/test.sh coverage` measures what of the package the tests run, too, with which Python takes twice as long;
# `scripts/test.sh fast` leaves out the types, the faults and the tests that start a process, a Trainer or an engine or take long.
# Further arguments are passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment dev
export OMP_NUM_THREADS=1
ruff check .
ruff format --check .
# each test goes to the worker that is free, as tests/tiers.py has it
pytest=(python -m pytest -n 2 --dist loadscope --no-loadscope-reorder)
case "${1:-}" in
    fast) exec "${pytest[@]}" -m "not slow" "${@:2}" ;;
    coverage) pytest+=(--cov --cov-report=term) && shift ;;
esac
mypy
python scripts/faults.py --short
exec "${pytest[@]}" "$@"
