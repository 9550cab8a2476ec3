"""What /metrics shows. Labels are from closed sets: no id ever becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from recsys.release.snapshot import Kind

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series per series that nobody reads

BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "recsys_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "recsys_request_seconds",
            "Time from the request's arrival in the application to its last byte",
            ["route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self.answers = Counter(
            "recsys_answers", "Lists given, by where they came from", ["source"], registry=registry
        )
        self.swaps = Counter("recsys_release_swaps", "Releases swapped in", registry=registry)
        self.refused = Counter(
            "recsys_releases_refused", "Times a release failed its checks", registry=registry
        )
        self.degraded = Gauge(
            "recsys_degraded",
            "1 while another release is served than the live one",
            registry=registry,
        )
        self._release = Gauge(
            "recsys_release", "The release served", ["release"], registry=registry
        )
        self._run_date = Gauge(
            "recsys_release_run_date_seconds", "Run date of the release served", registry=registry
        )
        self._keys = Gauge("recsys_snapshot_keys", "Lists served", ["kind"], registry=registry)

    def describe_release(self, release_id: str, counts: Mapping[Kind, int]) -> None:
        self._release.clear()
        self._release.labels(release_id).set(1)
        run_date = datetime.fromisoformat(release_id[:10]).replace(tzinfo=UTC)
        self._run_date.set(run_date.timestamp())
        for kind, count in counts.items():
            self._keys.labels(kind).set(count)

    def text(self) -> bytes:
        return generate_latest(self._registry)
