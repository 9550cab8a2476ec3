"""A publish with a URL: what Spark scored is what a host that pulled it answers."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.contracts import RELEASES
from recsys.errors import ConfigError, CorruptArtifact
from recsys.lake import Lake
from recsys.records import ScoringRecord, write_atomically
from recsys.release.opening import open_release
from recsys.release.pins import pin
from recsys.release.pointer import live_release, read_pointer, release_folder
from recsys.release.publish import publish
from recsys.release.remote import Unreachable
from recsys.release.snapshot import CARD_FILE
from recsys.release.stored_list import decode
from tests.release.making import NOON, make_release
from tests.release.pull.shops import poll
from tests.release.pull.web import web_server
from tests.release.shop import LISTS, RUN_DATE

pytestmark = pytest.mark.spark


def answers(paths: PathsConfig) -> dict[str, list[str]]:
    live = live_release(paths)
    assert live is not None
    with open_release(release_folder(paths, live.release_id)) as snapshot:
        return {
            user: [p.item_id for p in decode(snapshot.get("users", user) or b"")] for user in LISTS
        }


def test_a_publish_is_announced_and_pulled_and_one_that_could_not_be_is_completed_by_the_next(
    spark: SparkSession, lists: RecsysConfig, tmp_path: Path
) -> None:
    lake, folder = Lake(spark, lists.paths), tmp_path / "published"
    config = lists.model_copy(
        update={"publish": lists.publish.model_copy(update={"url": folder.as_uri()})}
    )
    make_release(lists.paths, date(2024, 5, 31))
    card = lists.paths.models / ScoringRecord.read(lists.paths, RUN_DATE).model_version / CARD_FILE
    write_atomically(card, b"# Model m1 of the shop\n")
    folder.write_text("the folder's disk is not mounted")

    with pytest.raises(Unreachable, match=r"not announced there: .*`recsys release announce`"):
        publish(lake, config, RUN_DATE, now=NOON)
    live = live_release(lists.paths)
    assert live is not None
    assert live.run_date == RUN_DATE  # all but the announcement is done
    assert lake.read(RELEASES).count() == 1

    folder.unlink()
    assert not publish(lake, config, RUN_DATE, now=NOON + timedelta(hours=1)).built
    host = PathsConfig(root=str(tmp_path / "host"))
    with web_server(folder) as web:
        poll(host, web.url)
    assert live_release(host) == live
    assert answers(host) == {user: items for user, (items, _, _) in LISTS.items()}
    pulled = release_folder(host, live.release_id)
    assert (pulled / CARD_FILE).read_text() == "# Model m1 of the shop\n"
    (pulled / CARD_FILE).write_text("# Another model\n")
    with pytest.raises(CorruptArtifact, match=rf"checksum of .*{CARD_FILE} is off"):
        open_release(pulled)

    # What a pin holds back is not announced; what is pinned is.
    other = make_release(lists.paths, date(2024, 5, 30), live=False).release_id
    pin(lists.paths, other, reason="sales week", now=NOON + timedelta(hours=2))
    assert not publish(lake, config, RUN_DATE, now=NOON + timedelta(hours=3)).live
    poll(host, folder.as_uri())
    pointer = read_pointer(host)
    assert pointer is not None
    assert (pointer.release_id, pointer.pinned, pointer.epoch) == (other, True, 2)

    with pytest.raises(ConfigError, match="a publish is decided where releases are published"):
        publish(lake, lists.model_copy(update={"paths": host}), RUN_DATE, now=NOON)
