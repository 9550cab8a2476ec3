"""``python -m tests.training.checkpoint.outgrow FOLDER``: two ranks; the disk is full in the middle of a save."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from recsys.embeddings import Comm
from recsys.errors import RecsysError
from recsys.training.checkpoint import Saver, newest
from tests.embeddings.rank_threads import run_ranks
from tests.training.checkpoint.saves import facts, save


def main(folder: Path) -> None:
    save(folder, 1, size=2)

    def of_rank(comm: Comm) -> str:
        # Rank 1 alone has too much; that ranks hold different shares is seen later, and never here.
        rows = torch.zeros(40 if comm.rank == 0 else 400_000, 4)
        saver = Saver(folder, comm)
        saver.begin(facts(2, size=2), {}, {"item": {"weight": rows}}, {"item": 2}, 0)
        try:
            saver.commit()
        except RecsysError as error:
            return str(error)
        return "committed"

    [told] = set(run_ranks(2, of_rank))
    kept = newest(folder, key="k")
    save(folder, 3, size=2)  # there is room again: the unfinished folder is gone
    after = newest(folder, key="k")
    assert kept is not None and after is not None
    sys.stdout.write(f"{told}\nkept: {kept.path.name}\nafterwards: {after.path.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
