"""`python outgrow.py ROOT`: a live release, then one that a small disk has no room for."""

from __future__ import annotations

import errno
import sys
from datetime import date

from recsys.config.places import PathsConfig
from recsys.release.opening import open_release
from recsys.release.pointer import live_release, release_folder
from tests.release.making import make_release, places


def main(root: str) -> None:
    paths = PathsConfig(root=root)
    first = make_release(paths)
    many = {f"user-{n}": places(*(f"item-{n}-{place}" for place in range(50))) for n in range(5000)}
    try:
        make_release(paths, date(2024, 6, 2), users=many)
    except OSError as error:
        sys.stdout.write(f"{errno.errorcode[error.errno or 0]} in {error.filename}\n")
    live = live_release(paths)
    assert live is not None and live.release_id == first.release_id
    open_release(release_folder(paths, live.release_id)).close()
    sys.stdout.write("the first release is live and whole\n")


if __name__ == "__main__":
    main(sys.argv[1])
