"""The honest naive collector: Flask, json, fastavro, one produce an event, and a flush before the answer.

It answers when all brokers that must have the events have them, as headrace does; it checks nothing but the JSON. Run
by gunicorn's threaded worker: `gunicorn -k gthread --threads 32 bench.naive_collector:app`.
"""

import io
import json
import os
import time
import uuid
from typing import Any

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from flask import Flask, Response, jsonify, request

from schemas.codec import read_schema

_schema: Any = fastavro.parse_schema(json.loads(read_schema("event")))
_topic = os.environ["BENCH_TOPIC"]
_known = {field["name"] for field in _schema["fields"]}
_blank = {field["name"]: "" for field in _schema["fields"] if field["type"] == "string"}
_producer: Producer | None = None
app = Flask(__name__)


def producer() -> Producer:
    """Return the process's producer, made behind the fork."""
    global _producer  # noqa: PLW0603  (as a first version has it)
    if _producer is None:
        servers = os.environ["BENCH_BOOTSTRAP_SERVERS"]
        _producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
    return _producer


@app.get("/healthz")
def healthz() -> str:
    """Answer."""
    return "ok"


@app.post("/collect/event")
def collect() -> tuple[Response, int]:
    """Take events."""
    sender, failed = producer(), []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    ids = []
    for event in request.get_json(force=True)["messageBody"]:
        ping_id = event.get("pingId") or str(uuid.uuid4())
        record: dict[str, Any] = {**_blank, **{name: event[name] for name in event.keys() & _known}}
        record |= {"eventId": str(uuid.uuid4()), "pingId": ping_id}
        now_ms = int(time.time() * 1000)
        record |= {"receivedAt": now_ms, "occurredAt": now_ms, "ip": request.remote_addr}
        buffer = io.BytesIO(b"\0\0\0\0\1")
        buffer.seek(5)
        fastavro.schemaless_writer(buffer, _schema, record)
        sender.produce(_topic, buffer.getvalue(), record["anonId"], on_delivery=report)
        ids.append(ping_id)
    sender.flush()
    if failed:
        return jsonify({"error": str(failed[0])}), 503
    return jsonify([{"headers": {}, "value": f'{{"pingId": "{ping_id}"}}'} for ping_id in ids]), 201
