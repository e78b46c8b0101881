#!/usr/bin/env bash
# Installs headrace with an extra into .venv, and shows one line per step. The installer's own output is in
# .venv/install.log. uv takes a quarter of pip's time. pip installs where uv can't, and where pip has an index of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=$1
python=${PYTHON:-python3}
log=.venv/install.log

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or later")'
echo "headrace: installing the extra '$extra' into .venv; this happens once"
test -x .venv/bin/python || "$python" -m venv .venv
bash deploy/compiler.sh
began_s=$SECONDS
export PIP_DISABLE_PIP_VERSION_CHECK=1

with_uv() {
    [[ $(.venv/bin/python -m pip config list) != *index* ]] &&
        .venv/bin/python -m pip install --quiet --no-compile uv >"$log" 2>&1 &&
        .venv/bin/uv pip install --python .venv/bin/python -e ".[$extra]" 2>&1 |
        tee -a "$log" |
        sed -u -n -E 's/^ *((Downloading|Building|Prepared|Installed) .*)/  \1/p'
}

# Only lines with the size of a large download, and the long steps. --no-compile: Python compiles what is imported.
with_pip() {
    .venv/bin/python -m pip install --progress-bar off --no-compile -e ".[$extra]" 2>&1 |
        tee "$log" |
        sed -u -n -E 's/^ *(Downloading|Using cached) ([^ ]+) \(([0-9.]+ MB)\).*/  \1 \2 (\3)/p
                      s/^ *(Building (wheel|editable) for [^ ]+) .*started.*/  \1/p
                      s/^Installing collected packages: .*/  Installing all packages/p
                      s/^ *(ERROR|error): .*/&/p'
}

if ! with_uv; then
    echo "  pip installs: uv can't, or pip has an index of its own"
    if ! with_pip; then
        echo "headrace: the installation failed; $log has the details" >&2
        exit 1
    fi
fi
echo "headrace: installed in $((SECONDS - began_s)) s"
