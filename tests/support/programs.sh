#!/usr/bin/env bash
# The programs beside Python that the tests run on. Missing ones are installed where this is Debian and we may;
# elsewhere they are named, and the tests that need them say so. With `bench`, also the load generator of `make bench`.
set -euo pipefail

declare -A package=(
    [java]=openjdk-17-jre-headless # Apache Kafka
    [mvn]=maven                    # brings Kafka's jars
    [redis-server]=redis-server    # the shared rate limit
    [chromium]=chromium            # the browser tests
    [curl]=curl                    # the README's own command
    [docker-compose]=docker-compose # the compose file itself
)
[ "${1:-}" != bench ] || package[wrk]=wrk

missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
has_prometheus() { command -v promtool >/dev/null && command -v prometheus >/dev/null; }
[ ${#missing[@]} -eq 0 ] && has_prometheus && exit 0

# Prometheus and its tool alone: the package would start a server.
fetch_prometheus() (
    cd "$(mktemp -d)"
    apt-get -o APT::Sandbox::User=root download -qq prometheus
    dpkg-deb --extract prometheus_*.deb .
    install usr/bin/promtool usr/bin/prometheus /usr/local/bin/
    rm -rf "$PWD"
)

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    [ ${#missing[@]} -eq 0 ] || apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    has_prometheus || fetch_prometheus
else
    echo "not installed: ${missing[*]:-prometheus}; the tests that need them will say so" >&2
fi
