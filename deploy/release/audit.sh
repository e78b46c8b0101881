#!/usr/bin/env bash
# Asks whether a locked version has a known vulnerability. Exit code 1 when one has; where the data can't be reached it
# says so and passes, because a build must not depend on it. docs/RELEASE.md: a release needs the answer.
set -euo pipefail
cd "$(dirname "$0")/../.."
for service in ingest consumer; do
    log=$(mktemp)
    if .venv/bin/pip-audit --require-hashes --disable-pip --progress-spinner off -r "deploy/locks/$service.txt" >"$log" 2>&1; then
        echo "audited: $service has no known vulnerability"
    elif grep -qE 'Name +Version +ID' "$log"; then
        cat "$log"
        exit 1
    else
        echo "not audited: $service; the vulnerability data can't be reached: $(tail -n 1 "$log" | cut -c1-200)"
    fi
    rm -f "$log"
done
