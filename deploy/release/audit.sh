#!/usr/bin/env bash
# Asks whether a locked version has a known vulnerability. Exit code: 0 no, 1 yes, 3 not audited: deploy/release/audit.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m deploy.release.audit
