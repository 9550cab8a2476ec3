"""`python publisher.py ROOT FIRST`: publishes lists number FIRST, FIRST + 1, … until it is killed; LAST ends it.

`python publisher.py ROOT FIRST LAST`. Says `publishing N` before each publish and `published N` after it.
"""

from __future__ import annotations

import itertools
import sys
from datetime import timedelta
from pathlib import Path

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.contracts import POPULAR_ITEMS
from recsys.lake import Lake, spark_session
from recsys.release.publish import publish
from tests.conftest import TEST_SPARK
from tests.release.making import NOON
from tests.release.shop import RUN_DATE, write_lists, write_scoring_record, write_table

USERS = 2000
LENGTH = 20


def write_number(paths: PathsConfig, number: int) -> None:
    """What a night scored: lists in which every item says of which number it is."""
    root = Path(paths.lake_uri)
    items = [f"of-{number}-place-{place}" for place in range(LENGTH)]
    scores = [float(LENGTH - place) for place in range(LENGTH)]
    write_lists(root, {f"user-{n}": (items, scores, ["model"] * LENGTH) for n in range(USERS)})
    popular = [
        dict(segment="", rank=place + 1, item_id=item, score=scores[place])
        for place, item in enumerate(items)
    ]
    write_table(root, POPULAR_ITEMS, popular)
    write_scoring_record(paths)


def publish_number(lake: Lake, config: RecsysConfig, number: int) -> None:
    publish(lake, config, RUN_DATE, now=NOON + timedelta(minutes=number))


def main(root: str, first: str, last: str = "") -> None:
    config = RecsysConfig(paths=PathsConfig(root=root))
    with spark_session("publisher", TEST_SPARK) as spark:
        lake = Lake(spark, config.paths)
        for number in itertools.count(int(first)):
            write_number(config.paths, number)
            say(f"publishing {number}")
            publish_number(lake, config, number)
            say(f"published {number}")
            if str(number) == last:
                break


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
