#!/usr/bin/env bash
# Builds the wheel and unpacks it into .venv/shipped, or where the argument says.
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:-.venv/shipped}
log=$to.log

echo "headrace: building the wheel"
began_s=$SECONDS
rm -rf "$to"
uv() { [ -x .venv/bin/uv ] && .venv/bin/uv pip install --python .venv/bin/python --no-deps --reinstall --target "$to" . >"$log" 2>&1; }
pip() { .venv/bin/python -m pip install --disable-pip-version-check --no-deps --target "$to" . >>"$log" 2>&1; }
if ! uv && ! pip; then
    echo "headrace: the wheel can't be built; $log has the details" >&2
    exit 1
fi
echo "headrace: built in $((SECONDS - began_s)) s"
