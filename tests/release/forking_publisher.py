"""`python -m tests.release.forking_publisher ROOT URL`: publishes when told to, each time in a process of its own.

For each line `NUMBER FAILPOINT` of standard input it forks, publishes there with that RECSYS_FAILPOINT, and says
`ended PID STATUS`. Spark's JVM, which takes ten seconds to start, is the parent's and outlives the kills.
"""

from __future__ import annotations

import os
import sys
import threading

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import PublishConfig
from recsys.lake import Lake, spark_session
from tests.conftest import TEST_SPARK
from tests.release.publisher import publish_number, say

KEEP = 2


def main(root: str, url: str) -> None:
    config = RecsysConfig(paths=PathsConfig(root=root), publish=PublishConfig(url=url, keep=KEEP))
    with spark_session("forking_publisher", TEST_SPARK) as spark:
        lake = Lake(spark, config.paths)
        for line in sys.stdin:
            number, _, failpoint = line.strip().partition(" ")
            child = os.fork()
            if not child:
                os.environ["RECSYS_FAILPOINT"] = failpoint
                os._exit(published(lake, config, int(number)))
            _, status = os.waitpid(child, 0)
            say(f"ended {child} {os.waitstatus_to_exitcode(status)}")


def published(lake: Lake, config: RecsysConfig, number: int) -> int:
    """The exit code; what goes wrong is on standard error."""
    done = []

    def publish() -> None:
        publish_number(lake, config, number)
        done.append(number)

    # py4j gives a thread a connection to the JVM of its own: the parent's is not broken off in mid-sentence.
    thread = threading.Thread(target=publish)
    thread.start()
    thread.join()
    return 0 if done else 1


if __name__ == "__main__":
    main(*sys.argv[1:])
