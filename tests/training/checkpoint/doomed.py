"""``python -m tests.training.checkpoint.doomed FOLDER NAME...``: die at each named failpoint, in a process each.

The process that is killed saves below ``FOLDER/NUMBER`` and prunes. Processes are forked: to start each anew would
take two seconds of imports.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recsys.embeddings import LocalComm
from recsys.training.checkpoint import Saver, newest, prune
from tests.training.checkpoint.saves import begin, facts, save, tables

BEFORE = (0, 3)
PLACES = ((0, 5), (1, 0), (1, 5))


def main(folder: Path, failpoints: list[str]) -> None:
    for number, name in enumerate(failpoints):
        mine = folder / str(number)
        save(mine, *BEFORE)
        child = os.fork()
        if child == 0:
            try:
                os.environ["RECSYS_FAILPOINT"] = name
                save_and_prune(mine)
            finally:
                os._exit(0)  # it should have been killed
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


def save_and_prune(folder: Path) -> None:
    """A step, an epoch's end, and another step, from where the newest checkpoint stands; the older ones go."""
    comm = LocalComm()
    saver, found = Saver(folder, comm), newest(folder, key="k")
    assert found is not None
    done = (found.manifest.facts.epoch, found.manifest.facts.epoch_step)
    for epoch, epoch_step in [place for place in PLACES if place > done]:
        begin(saver, comm, facts(epoch, epoch_step), tables(seed=1000 * epoch + epoch_step))
        written = saver.commit()
        prune(folder, keep_newest=2, keep_epoch=1, key="k", just_written=written)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
