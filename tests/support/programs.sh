#!/usr/bin/env bash
# The programs beside Python that the tests run on. Missing ones are installed where this is Debian and we may;
# elsewhere they are named, and the tests that need them say so.
set -euo pipefail

declare -A package=(
    [java]=openjdk-17-jre-headless # Apache Kafka
    [mvn]=maven                    # brings Kafka's jars
    [redis-server]=redis-server    # the shared rate limit
    [chromium]=chromium            # the browser tests
    [curl]=curl                    # the README's own command
    [docker-compose]=docker-compose # the compose file itself
)

missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && command -v promtool >/dev/null && exit 0

# Prometheus's tool, which evaluates alarms and needs nothing else: its package would bring a server, and start it.
fetch_promtool() (
    cd "$(mktemp -d)"
    apt-get -o APT::Sandbox::User=root download -qq prometheus
    dpkg-deb --extract prometheus_*.deb .
    install usr/bin/promtool /usr/local/bin/
    rm -rf "$PWD"
)

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    [ ${#missing[@]} -eq 0 ] || apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    command -v promtool >/dev/null || fetch_promtool
else
    echo "not installed: ${missing[*]:-promtool}; the tests that need them will say so" >&2
fi
