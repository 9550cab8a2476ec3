"""Check a release: ``python -m recsys.release.check FOLDER``, what its manifest promises as JSON on standard input.

For ``opening``, which starts a process for every release; one that imported the configuration, too, would take five
times as long. Exit code 0: all is well. ``EXIT_REFUSED``: standard output says what is not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from recsys.errors import EXIT_DONE, EXIT_REFUSED, CorruptArtifact
from recsys.failpoints import failpoint
from recsys.release.snapshot import Promised, Snapshot, verify_checksums, verify_content


def main() -> int:
    folder = Path(sys.argv[1])
    promised = Promised(**json.load(sys.stdin))
    try:
        verify_checksums(folder)  # this reads the whole file, which is then in the page cache
        failpoint("check:after-checksums")
        with Snapshot(folder) as snapshot:
            verify_content(snapshot, promised)
    except CorruptArtifact as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "backslashreplace"))
        return EXIT_REFUSED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
