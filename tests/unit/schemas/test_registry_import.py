"""What a process without a Schema Registry does without."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("service", ["consumer.service", "ingest.service"])
def test_the_registrys_client_is_not_loaded_with_a_service(service: str) -> None:
    """Most have no registry, and its client is a quarter of a start and 20 MiB."""
    look = f"import sys, {service}; sys.exit('confluent_kafka.schema_registry' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
