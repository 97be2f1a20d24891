# Sourced by the scripts beside it: the environment .venv with the project and the extras that are named.
#   environment EXTRA[,EXTRA…]
# Set PYTHON to choose the interpreter, VENV to choose the folder.
environment() {
    local python="${PYTHON:-$(command -v python3.11 || command -v python3)}"
    VENV="${VENV:-.venv}"
    if [ ! -x "$VENV/bin/python" ]; then
        "$python" -m venv "$VENV"
    fi
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    # torch comes first and alone: what is installed after it finds it there and pulls no other build
    "$VENV/bin/python" -m pip install --quiet "torch==2.13.0"
    "$VENV/bin/python" -m pip install --quiet --constraint constraints.txt --editable ".[$1]"
    PATH="$(cd "$VENV/bin" && pwd):$PATH"
    export PATH
}
