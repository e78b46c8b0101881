#!/usr/bin/env bash
# One dependency of the ingress, gunicorn's HTTP parser, has no wheel: it is compiled, as are our .pyx modules.
# A missing compiler is installed where this is Debian and we may; elsewhere this says what is missing.
set -euo pipefail
command -v cc >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends gcc libc6-dev python3-dev >/dev/null
else
    echo "headrace needs a C compiler and Python's headers (Debian: gcc, libc6-dev, python3-dev)" >&2
    exit 1
fi
