#!/usr/bin/env bash
# The fast tests with the lowest and with the newest versions that setup.cfg allows, on each of some versions of Python.
#   bash scripts/test_versions.sh [lowest|newest]...
# The environments are made in a temporary folder; a Python that this machine does not have is skipped, and said to be.
#   PYTHONS="3.12" bash scripts/test_versions.sh         # other versions of Python than 3.10, 3.11 and 3.13
#   TORCH=2.13.0 bash scripts/test_versions.sh lowest    # this torch in the place of the lowest one, which is a large download
set -uo pipefail
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1

interpreter() {  # path of a Python: on the search path, or one of pyenv's
    local python
    for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1."*/bin/python; do
        if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

lowest() {  # setup.cfg's lower bounds as constraints
    "$1" - <<'PY'
import configparser, os, re

config = configparser.ConfigParser()
config.read("setup.cfg")
lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
for name, version in re.findall(r"^([\w-]+)>=([\w.]+)", "\n".join(lists), re.MULTILINE):
    print(f"{name}=={os.environ.get('TORCH', version) if name == 'torch' else version}")
PY
}

try() {  # versions, Python
    local environment="$folder/$1-$2" python constraints="$folder/$1-$2.txt"
    python="$(interpreter "$2")" || { echo "$1 versions, Python $2: skipped, there is none on this machine"; return; }
    if [ "$1" = lowest ]; then lowest "$python"; fi > "$constraints"
    echo "$1 versions, Python $2: $(tr '\n' ' ' < "$constraints")"
    "$python" -m venv "$environment" &&
        "$environment/bin/python" -m pip install --quiet --constraint "$constraints" torch &&
        "$environment/bin/python" -m pip install --quiet --constraint "$constraints" --editable ".[dev]" &&
        PATH="$environment/bin:$PATH" python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m "not slow" &&
        echo "$1 versions, Python $2: passed" && return
    echo "$1 versions, Python $2: FAILED"
    return 1
}

failed=0
for versions in ${*:-lowest newest}; do
    for number in ${PYTHONS:-3.10 3.11 3.13}; do
        try "$versions" "$number" || failed=1
        rm -rf "${folder:?}/$versions-$number"
    done
done
exit "$failed"
