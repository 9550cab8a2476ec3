"""What one worker of several shows: the counts of all, and of what they are the worse."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from recsys.release.pull_state import PullState
from recsys.release.snapshot import Kind
from recsys.serving import all_workers
from recsys.serving.all_workers import ABANDONED_SECONDS, GAUGES, GONE_SECONDS, shared_folder
from recsys.serving.metrics import Metrics

OLD, NEW = "2024-06-01-5f2c9a71d04e", "2024-06-02-0123456789ab"
KEYS: dict[Kind, int] = {"users": 5, "items": 3}
URL = "https://releases.example"
FULL = Path("/dev/full")
"""Whatever is written there finds no space left."""


def word_of(metrics: Metrics) -> Path:
    """The file that this worker has just written."""
    assert metrics.workers
    metrics.workers.write()
    return metrics.workers._path


def series(metrics: Metrics, *wanted: str) -> dict[str, float]:
    """Every series of these metrics with its value, as this worker shows them."""
    found = re.findall(r"^(\w+)(\{.*\})? (\S+)$", metrics.text().decode(), re.MULTILINE)
    return {name + labels: float(value) for name, labels, value in found if name in wanted}


def popular_answers(metrics: Metrics) -> float:
    return series(metrics, "recsys_answers_total")['recsys_answers_total{source="popular"}']


@pytest.fixture
def two(tmp_path: Path) -> tuple[Metrics, Metrics]:
    """Two workers of one service; the tests call each as its process would."""
    return Metrics(tmp_path), Metrics(tmp_path)


def test_counts_are_added_up_whichever_worker_is_scraped(two: tuple[Metrics, Metrics]) -> None:
    one, other = two
    for seconds in (0.0002, 0.0002, 0.5):
        one.routes["popular"].add(200, seconds)
    one.routes["popular"].add(422, 0.0002)
    other.routes["popular"].add(200, 0.02)
    other.routes["popular"].add(500, 0.02)  # of a status that only one has seen
    one.refusals.labels("key").inc(2)
    other.refusals.labels("overload").inc(3)
    other.swaps.inc()
    word_of(one)
    word_of(other)

    for scraped in two:
        requests = series(scraped, "recsys_requests_total")
        assert {one: n for one, n in requests.items() if "popular" in one} == {
            'recsys_requests_total{route="popular",status="200"}': 4,
            'recsys_requests_total{route="popular",status="422"}': 1,
            'recsys_requests_total{route="popular",status="500"}': 1,
        }
        took = series(scraped, "recsys_request_seconds_bucket", "recsys_request_seconds_sum")
        of_popular = [n for one, n in took.items() if "popular" in one]
        assert of_popular == [0, 3, 3, 3, 3, 3, 3, 5, 5, 6, 6, pytest.approx(0.5406)]
        assert series(scraped, "recsys_refusals_total", "recsys_release_swaps_total") == {
            'recsys_refusals_total{reason="key"}': 2,
            'recsys_refusals_total{reason="overload"}': 3,
            "recsys_release_swaps_total": 1,
        }


def test_of_what_workers_are_the_worse_is_shown(two: tuple[Metrics, Metrics]) -> None:
    ahead, behind = two
    ahead.describe_release(NEW, KEYS)
    behind.describe_release(OLD, {"users": 4, "items": 3})
    behind.degraded.set(1)
    ahead.in_flight.set(2)
    behind.in_flight.set(5)
    ahead.blocked_items.set(1)  # the other has not looked yet
    for epoch, worker in enumerate((behind, ahead), start=3):
        at = datetime(2024, 6, epoch, tzinfo=UTC)
        worker.describe_pull(PullState(url=URL, epoch=epoch, last_success=at))
    word_of(ahead)
    word_of(behind)

    for scraped in two:
        assert series(scraped, *GAUGES) == {
            "recsys_degraded": 1,
            "recsys_in_flight": 7,
            "recsys_blocked_items": 0,
            f'recsys_release{{release="{NEW}"}}': 1,
            f'recsys_release{{release="{OLD}"}}': 1,
            "recsys_release_run_date_seconds": datetime(2024, 6, 1, tzinfo=UTC).timestamp(),
            'recsys_snapshot_keys{kind="users"}': 4,
            'recsys_snapshot_keys{kind="items"}': 3,
            f'recsys_pull_epoch{{url="{URL}"}}': 4,
            f'recsys_pull_last_success_seconds{{url="{URL}"}}': at.timestamp(),
        }


def test_every_gauge_says_what_it_is_of_several_workers() -> None:
    gauges = {one.name for one in Metrics().registry.collect() if one.type == "gauge"}
    assert gauges == set(GAUGES)


def test_a_worker_that_is_alone_in_the_folder_says_what_one_without_a_folder_says(
    tmp_path: Path,
) -> None:
    alone, shared = Metrics(), Metrics(tmp_path)
    for metrics in (alone, shared):
        metrics.describe_release(OLD, KEYS)
        metrics.routes["batch"].add(503, 0.004)
        metrics.refusals.labels("key").inc()
    assert shared.text() == alone.text()


def test_no_sum_falls_in_whatever_order_workers_count_and_are_scraped(tmp_path: Path) -> None:
    """None of them writes between two scrapes of its own: what it told must have been written then."""
    draw = random.Random(5)
    workers, told = [Metrics(tmp_path) for _ in range(3)], 0.0
    for asked in range(1, 201):
        draw.choice(workers).answers["popular"] += 1
        now = popular_answers(draw.choice(workers))
        assert told <= now <= asked
        told = now
    for worker in workers:
        word_of(worker)
    assert [popular_answers(worker) for worker in workers] == [200] * 3


KILLED = """
import os, signal, sys
from pathlib import Path
from recsys.serving.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.answers["popular"] += 7
metrics.in_flight.set(3)
metrics.workers.write()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_worker_counted_stays_and_what_it_was_does_not(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [word] = tmp_path.iterdir()
    started_anew = Metrics(tmp_path)
    started_anew.answers["popular"] += 1
    started_anew.in_flight.set(1)
    assert popular_answers(started_anew) == 8
    assert series(started_anew, "recsys_in_flight") == {"recsys_in_flight": 4}  # for so long

    long_ago = word.stat().st_mtime - GONE_SECONDS
    os.utime(word, (long_ago, long_ago))
    assert popular_answers(started_anew) == 8
    assert series(started_anew, "recsys_in_flight") == {"recsys_in_flight": 1}


def test_where_nothing_can_be_written_a_worker_tells_its_own_and_says_so_once(
    two: tuple[Metrics, Metrics], tmp_path: Path
) -> None:
    one, other = two
    one.swaps.inc()
    word_of(other).unlink()
    tmp_path.rename(tmp_path.with_name("away"))
    with capture_logs() as logs:
        told = [series(one, "recsys_release_swaps_total") for _ in range(3)]
    assert told == [{"recsys_release_swaps_total": 1}] * 3
    assert [line["event"] for line in logs] == ["metrics_not_shared"]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_on_a_full_disk_no_sum_falls_and_gauges_are_of_now(two: tuple[Metrics, Metrics]) -> None:
    one, other = two
    one.answers["popular"] += 3
    unfinished = word_of(one).with_suffix(".new")
    word_of(other)
    unfinished.symlink_to(FULL)
    one.answers["popular"] += 4
    one.degraded.set(1)
    with capture_logs() as logs:
        told = [popular_answers(scraped) for scraped in (one, other, one)]
    assert told == [3, 3, 3]
    assert series(one, "recsys_degraded") == {"recsys_degraded": 1}
    [line] = logs
    assert (line["event"], "No space left" in line["problem"]) == ("metrics_not_shared", True)
    unfinished.unlink()
    assert [popular_answers(scraped) for scraped in (one, other)] == [7, 7]


def test_a_worker_writes_as_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    worker, reader = Metrics(tmp_path), Metrics(tmp_path)
    seen = []

    async def life() -> None:
        assert worker.workers
        worker.swaps.inc()
        writing = asyncio.create_task(worker.workers.keep_written())
        await asyncio.sleep(0)
        seen.append(series(reader, "recsys_release_swaps_total"))
        worker.swaps.inc()
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        seen.append(series(reader, "recsys_release_swaps_total"))

    asyncio.run(life())
    assert seen == [{"recsys_release_swaps_total": 1}, {"recsys_release_swaps_total": 2}]


def test_the_folder_goes_with_the_service_and_one_worker_needs_none() -> None:
    with shared_folder(1) as none:
        assert none is None
    with shared_folder(2) as folder:
        assert folder is not None
        assert folder.parent == Path("/dev/shm") or not os.access("/dev/shm", os.W_OK)
        Metrics(folder).text()
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


def test_what_a_killed_service_left_goes_when_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_workers, "PLACES", (str(tmp_path),))
    left, served, another = (
        tmp_path / name for name in ("recsys-serve-1-x", "recsys-serve-2-x", "another")
    )
    long_ago = time.time() - ABANDONED_SECONDS - 1
    for folder in (left, served, another):
        folder.mkdir()
        (folder / "0.json").write_text("[]")
        if folder != served:  # its workers write, and find the disk full: nothing is renamed
            os.utime(folder / "0.json", (0, long_ago))
        os.utime(folder, (0, long_ago))
    unreadable = {tmp_path / f"recsys-serve-{n}-file" for n in range(20)}  # in any order with left
    for file in unreadable:
        file.touch()
    with shared_folder(2) as mine:
        assert mine is not None
        assert set(tmp_path.iterdir()) == {mine, served, another, *unreadable}


def test_the_folder_is_made_where_there_is_a_place_and_a_service_starts_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_workers, "PLACES", (str(tmp_path / "none"), str(tmp_path)))
    with shared_folder(2) as folder:
        assert folder is not None and folder.parent == tmp_path
    monkeypatch.setattr(all_workers, "PLACES", (str(tmp_path / "none"), str(tmp_path / "nor here")))
    with capture_logs() as logs, shared_folder(2) as none:
        assert none is None
    assert [line["event"] for line in logs] == ["metrics_not_shared"]
    monkeypatch.setattr(all_workers, "PLACES", (None,))
    monkeypatch.setattr(all_workers, "gettempdir", Mock(side_effect=FileNotFoundError("no place")))
    with capture_logs() as logs, shared_folder(2) as none:
        assert none is None
    assert [line["problem"] for line in logs] == ["no place"]
