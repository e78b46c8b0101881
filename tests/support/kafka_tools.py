"""Kafka's own command line tools, run as an operator's shell would run them."""

import shlex
import subprocess
from typing import Final

from deploy.embedded import kafka_distribution
from tests.support.kafka_classes import archive_of, mapping

_CLASSES: Final = {
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
}
_JVM: Final = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
_RUN_S: Final = 60.0


def run_tool(line: str) -> str:
    """Run one line that begins with a script of Kafka's bin directory; return what it printed.

    Raises:
        RuntimeError: it failed; the message has its output.
        NotAvailableError: no Java, or no Kafka.
    """
    script, *arguments = shlex.split(line)
    java, jars = kafka_distribution.java(), kafka_distribution.home()
    command = [java, *_JVM, *mapping(archive_of(jars)), "-cp", f"{jars}/*", _CLASSES[script], *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
    if run.returncode or "Error" in run.stdout:  # some of them fail with exit code 0
        raise RuntimeError(f"{line}: {run.returncode}\n{run.stdout}{run.stderr}")
    return run.stdout
