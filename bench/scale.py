"""What a rate of events needs, from measured costs and stated assumptions. Pure; docs/SCALE.md has its tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

RATES: Final = (10_000, 1_000_000, 10_000_000)
_DAY_S: Final = 86_400
_MONTH_H: Final = 730


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on one machine; see docs/PERFORMANCE.md.

    Attributes:
        ingress_us: processor time of the ingress for an event, at 10 events a request.
        broker_us: of one broker, for an event that it gets and gives away again.
        worker_us: of a worker for a row.
        engine_us: of ClickHouse for a row.
        worker_rows_per_s: what one worker moved on two cores that it shared with a broker and ClickHouse.
        request_bytes: an event as it is sent, at 10 events a request.
        log_bytes: an event in the log of one broker.
        table_bytes: a row on the disk of one replica.
    """

    ingress_us: float
    broker_us: float
    worker_us: float
    engine_us: float
    worker_rows_per_s: float
    request_bytes: float
    log_bytes: float
    table_bytes: float


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured, but chosen. Prices are round figures of public clouds.

    Attributes:
        busy: the share of a core that a plan uses at the stated rate; the rest is for peaks and lost machines.
        engine_busy: the same of ClickHouse; the rest is for queries.
        copies: of the log; also replicas of a shard, less one.
        log_days: how long the log keeps records.
        table_days: how long the table keeps rows.
        broker_bytes_per_s: what one broker writes, copies included.
        broker_cores: of one broker.
        shard_cores: of one replica of a shard.
        shard_disk_bytes: of one replica of a shard.
        core_hour: the price of a core for an hour, memory included (USD).
        disk_gb_month: of a gigabyte of disk for a month.
        transfer_gb: of a gigabyte between zones.
    """

    busy: float = 0.5
    engine_busy: float = 0.3
    copies: int = 3
    log_days: float = 3.0
    table_days: float = 30.0
    broker_bytes_per_s: float = 150e6
    broker_cores: int = 8
    shard_cores: int = 32
    shard_disk_bytes: float = 16e12
    core_hour: float = 0.04
    disk_gb_month: float = 0.08
    transfer_gb: float = 0.01

    @property
    def replicas(self) -> int:
        """The replicas of a shard."""
        return self.copies - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rate needs."""

    rate: float
    ingress_cores: int
    brokers: int
    partitions: int
    workers: int
    shards: int
    engine_cores: int
    in_bytes_per_s: float
    zone_bytes_per_s: float
    log_bytes: float
    table_bytes: float
    month_usd: float

    @property
    def capacity_rows_per_s(self) -> float:
        """What its workers move when they are behind."""
        return self.rate * 2


def plan(rate: float, costs: Costs, given: Assumptions) -> Plan:
    """Return what a rate of events a second needs."""

    def cores(us: float, busy: float) -> int:
        return max(2, ceil(rate * us / 1e6 / busy))

    log_bytes = rate * costs.log_bytes * given.log_days * _DAY_S * given.copies
    table_bytes = rate * costs.table_bytes * given.table_days * _DAY_S * given.replicas
    written = rate * costs.log_bytes * given.copies
    broker_cores = cores(costs.broker_us * given.copies, given.busy)
    brokers = max(given.copies, ceil(written / given.broker_bytes_per_s), ceil(broker_cores / given.broker_cores))
    workers = max(2, ceil(rate / (costs.worker_rows_per_s * given.busy)))
    engine_cores = cores(costs.engine_us, given.engine_busy) * given.replicas
    shards = max(
        1,
        ceil(engine_cores / given.replicas / given.shard_cores),
        ceil(table_bytes / given.replicas / given.shard_disk_bytes),
    )
    ingress_cores, worker_cores = cores(costs.ingress_us, given.busy), cores(costs.worker_us, given.busy)
    zone = written + rate * costs.table_bytes * given.replicas + rate * costs.log_bytes
    all_cores = (
        ingress_cores + worker_cores + brokers * given.broker_cores + shards * given.replicas * given.shard_cores
    )
    usd = all_cores * given.core_hour * _MONTH_H
    usd += (log_bytes + table_bytes) / 1e9 * given.disk_gb_month
    usd += zone * _MONTH_H * 3600 / 1e9 * given.transfer_gb
    return Plan(
        rate,
        ingress_cores,
        brokers,
        max(12, 4 * workers),
        workers,
        shards,
        engine_cores,
        rate * costs.request_bytes,
        zone,
        log_bytes,
        table_bytes,
        usd,
    )


def costs_of(ingress: Mapping[str, Any], sink: Mapping[str, Any], median: Any) -> Costs:
    """Return the costs that two benches have kept; `median` takes rounds and a name."""
    ours, worker = ingress["sides"]["headrace"]["10x32"], sink["sides"]["headrace"]
    sizes = sink["sizes"]
    return Costs(
        median(ours, "cpu_us_per_event"),
        median(ours, "broker_us_per_event") + median(worker, "broker_us_per_row"),
        median(worker, "worker_us_per_row"),
        median(worker, "engine_us_per_row"),
        median(worker, "rows_per_s"),
        ingress["request_bytes"]["10"] / 10,
        sizes["log_bytes"],
        median(worker, "table_bytes"),
    )


def amount(number: float, unit: str = "") -> str:
    """Return a number with two significant digits and a prefix: 1.3 TB."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            value = number / 10**power
            digits = f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")
            return f"{digits} {prefix}{unit}"
    return f"{number:.0f} {unit}".strip()


def table(plans: list[Plan]) -> str:
    """Return the Markdown table of plans."""
    rows: list[tuple[str, list[str]]] = [
        ("ingress cores", [f"{one.ingress_cores:,}" for one in plans]),
        ("HTTP in, bytes/s", [amount(one.in_bytes_per_s, "B") for one in plans]),
        ("brokers", [f"{one.brokers:,}" for one in plans]),
        ("partitions", [f"{one.partitions:,}" for one in plans]),
        ("log on disk, all copies", [amount(one.log_bytes, "B") for one in plans]),
        ("workers", [f"{one.workers:,}" for one in plans]),
        ("ClickHouse shards", [f"{one.shards:,}" for one in plans]),
        ("cores for inserts, all replicas", [f"{one.engine_cores:,}" for one in plans]),
        ("table on disk, all replicas", [amount(one.table_bytes, "B") for one in plans]),
        ("between zones, bytes/s", [amount(one.zone_bytes_per_s, "B") for one in plans]),
        ("USD a month", [amount(one.month_usd) for one in plans]),
    ]
    head = f"| what | {' | '.join(f'{amount(one.rate)} events/s' for one in plans)} |"
    lines = (f"| {name} | {' | '.join(cells)} |" for name, cells in rows)
    return "\n".join((head, "|---" * (len(plans) + 1) + "|", *lines))
