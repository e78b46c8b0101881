"""The honest naive consumer: a batch of records, each decoded by fastavro, one `client.insert`, then a commit.

At least once: a crash between insert and commit doubles the batch. Run by `python -m bench.sink`.
"""

import io
import json
import os
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import clickhouse_connect
import fastavro
from confluent_kafka import Consumer

from consumer.clickhouse.statements import column_of
from schemas.codec import FRAME_BYTES, read_schema

_RECORDS_MAX: Final = 10_000


def main() -> None:
    """Insert until somebody ends this process."""
    schema: Any = fastavro.parse_schema(json.loads(read_schema("event")))
    fields = [field["name"] for field in schema["fields"]]
    columns = [*map(column_of, fields), "_topic", "_partition", "_offset", "_timestamp"]
    password = open(os.environ["BENCH_PASSWORD_FILE"]).read().strip()  # noqa: PTH123, SIM115  (as a first version has it)
    client = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=int(os.environ["BENCH_CLICKHOUSE_PORT"]),
        username=os.environ["BENCH_USER"],
        password=password,
        database=os.environ["BENCH_DATABASE"],
    )
    reader = Consumer(
        {
            "bootstrap.servers": os.environ["BENCH_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["BENCH_DATABASE"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    reader.subscribe([os.environ["BENCH_TOPIC"]])
    while True:
        rows = []
        for message in reader.consume(_RECORDS_MAX, timeout=1.0):
            if message.error():
                continue
            value = message.value() or b""
            event: Any = fastavro.schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), schema, None)
            row = [UUID(str(event[name])) if name in ("eventId", "pingId") else event[name] for name in fields]
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
            rows.append([*row, message.topic(), message.partition(), message.offset(), at])
        if rows:
            client.insert("events", rows, column_names=columns)
            reader.commit(asynchronous=False)


if __name__ == "__main__":
    main()
