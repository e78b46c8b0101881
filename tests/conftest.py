"""What every test may ask for: the brokers and engines of tests/support, and hypothesis' profiles."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.support.fixtures_clickhouse",
    "tests.support.fixtures_consumer",
    "tests.support.fixtures_group",
    "tests.support.fixtures_kafka",
]

# `make check` takes a slice; HYPOTHESIS_PROFILE=long looks as far as the promises reach.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
