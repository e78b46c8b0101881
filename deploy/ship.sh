#!/usr/bin/env bash
# Builds the wheel and unpacks it into .venv/shipped, or where the argument says, unless it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:-.venv/shipped}
log=$to.log
digest=$(.venv/bin/python -m tests.support.shipped) # before the build: what is edited meanwhile is built the next time
if [ -d "$to" ] && [ "$(cat "$to.digest" 2>/dev/null)" = "$digest" ]; then exit 0; fi

echo "headrace: building the wheel"
began_s=$SECONDS
rm -rf "$to" "$to.new" "$to.digest"
uv() { [ -x .venv/bin/uv ] && .venv/bin/uv pip install -v --python .venv/bin/python --no-deps --reinstall --target "$to.new" . >"$log" 2>&1; }
pip() { .venv/bin/python -m pip install -v --disable-pip-version-check --no-deps --target "$to.new" . >>"$log" 2>&1; }
if ! uv && ! pip; then
    echo "headrace: the wheel can't be built; $log has the details" >&2
    exit 1
fi
mv "$to.new" "$to"
echo "$digest" >"$to.digest"
echo "headrace: built in $((SECONDS - began_s)) s"
