"""What /metrics shows. Labels are from closed sets: no id ever becomes one.

What is counted for every request is a plain integer, made into Prometheus' samples when somebody scrapes: the
client's own counters take a lock each, a tenth of the time that an answer takes. One event loop counts, so
nothing is lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from recsys.release.pull_state import PullState
from recsys.release.snapshot import Kind
from recsys.serving.all_workers import AllWorkers

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series per series that nobody reads

BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
ROUTES = ("recommendations", "similar", "also_bought", "popular", "session", "batch", "other")
SOURCES = ("personal", "popular", "similar", "also_bought", "session")
FALLBACKS = ("unknown_user", "nothing_left", "unknown_segment", "nothing_similar")
"""Why a list is another one than was asked for: no list for the user; all of it blocked, excluded or of other
categories; no list for the segment; no item goes with what the visitor looked at."""


class Tally:
    """One route: answers by status, and how long they took."""

    __slots__ = ("by_status", "in_bucket", "seconds")

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {200: 0}
        self.in_bucket = [0] * (len(BUCKETS_SECONDS) + 1)
        self.seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.in_bucket[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.seconds += seconds


class _Tallies(Collector):
    """The plain integers, as Prometheus wants them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        routes = self._metrics.routes
        requests = CounterMetricFamily(
            "recsys_requests", "Requests answered", labels=["route", "status"]
        )
        seconds = HistogramMetricFamily(
            "recsys_request_seconds",
            "Time from the request's arrival in the application to its last byte",
            labels=["route"],
        )
        for route, tally in routes.items():
            for status, count in sorted(tally.by_status.items()):
                requests.add_metric([route, str(status)], count)
            seconds.add_metric([route], _cumulated(tally), tally.seconds)
        yield requests
        yield seconds
        yield _counter(
            "recsys_answers",
            "Lists given, by where they came from",
            "source",
            self._metrics.answers,
        )
        lookups = CounterMetricFamily(
            "recsys_lookups", "Users and items looked up", labels=["kind", "result"]
        )
        for kind, counts in self._metrics.lookups.items():
            for result, count in counts.items():
                lookups.add_metric([kind, result], count)
        yield lookups
        yield _counter(
            "recsys_fallbacks",
            "Lists given in place of the one asked for, by reason",
            "reason",
            self._metrics.fallbacks,
        )


class Metrics:
    """The counters of one process. What is counted for every request is public and plain."""

    def __init__(self, shared: Path | None = None) -> None:
        """``shared``: the folder in which the workers of one service tell each other; None where there is one."""
        self.routes = {route: Tally() for route in ROUTES}
        self.answers = dict.fromkeys(SOURCES, 0)
        self.lookups = {kind: {"hit": 0, "miss": 0} for kind in ("users", "items")}
        self.fallbacks = dict.fromkeys(FALLBACKS, 0)
        registry = self.registry = CollectorRegistry()
        registry.register(_Tallies(self))
        self.workers = None if shared is None else AllWorkers(registry, shared)
        self.swaps = Counter("recsys_release_swaps", "Releases swapped in", registry=registry)
        self.refused = Counter(
            "recsys_releases_refused", "Times a release failed its checks", registry=registry
        )
        self.degraded = Gauge(
            "recsys_degraded",
            "1 while another release is served than the live one, or blocked items cannot be read",
            registry=registry,
        )
        self.refusals = Counter(
            "recsys_refusals",
            "Requests turned away by the guard, by reason",
            ["reason"],
            registry=registry,
        )
        self.in_flight = Gauge("recsys_in_flight", "Requests being worked on", registry=registry)
        self.blocked_items = Gauge(
            "recsys_blocked_items", "Items that recsys block-item took off", registry=registry
        )
        self.withheld = Counter(
            "recsys_withheld_items", "Places that blocked items were left out of", registry=registry
        )
        self._release = Gauge(
            "recsys_release", "The release served", ["release"], registry=registry
        )
        self._run_date = Gauge(
            "recsys_release_run_date_seconds", "Run date of the release served", registry=registry
        )
        self._keys = Gauge("recsys_snapshot_keys", "Keys served", ["kind"], registry=registry)
        # With a label, so that a host that does not pull shows neither.
        self._pull_epoch = Gauge(
            "recsys_pull_epoch", "Announcement in force on a host that pulls", ["url"], registry=registry
        )  # fmt: skip
        self._pulled_at = Gauge(
            "recsys_pull_last_success_seconds",
            "When the source last answered and what it announces was live here",
            ["url"],
            registry=registry,
        )

    def describe_release(self, release_id: str, counts: Mapping[Kind, int]) -> None:
        self._release.clear()
        self._release.labels(release_id).set(1)
        run_date = datetime.fromisoformat(release_id[:10]).replace(tzinfo=UTC)
        self._run_date.set(run_date.timestamp())
        for kind, count in counts.items():
            self._keys.labels(kind).set(count)

    def describe_pull(self, state: PullState | None) -> None:
        """``url`` is the one of conf: a closed set of one."""
        if state is None:
            return
        self._pull_epoch.labels(state.url).set(state.epoch)
        if state.last_success is not None:
            self._pulled_at.labels(state.url).set(state.last_success.timestamp())

    def text(self) -> bytes:
        """Of the whole service, whichever of its workers is asked."""
        return generate_latest(self.workers or self.registry)


def _cumulated(tally: Tally) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*BUCKETS_SECONDS, float("inf")), tally.in_bucket, strict=True):
        total += count
        buckets.append((str(bound) if bound != float("inf") else "+Inf", float(total)))
    return buckets


def _counter(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
