"""What a benchmark that was killed had measured: the next run that asks the same goes on after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import recsys
from recsys.commit import checkout_commit
from recsys.config import RecsysConfig
from recsys.records import sha256_of, write_atomically

Json = dict[str, Any]


class FinishedRows:
    """By seed and recommender; None of one that lacked something."""

    def __init__(self, path: Path, key: str) -> None:
        """What ``path`` holds counts where it was kept under the same ``key``; an empty key keeps nothing."""
        self._path, self._key = path, key
        self._rows: dict[str, dict[str, Json | None]] = {}
        try:
            told = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        if key and told["key"] == key:
            self._rows = told["rows"]

    @classmethod
    def of(cls, path: Path, files: list[Path], config: RecsysConfig) -> Self:
        """For these files, settings and code; a checkout with local changes does not say what its code is."""
        commit = checkout_commit()
        if commit.endswith("-dirty"):
            return cls(path, "")
        words = [
            *map(sha256_of, files),
            config.training.model_dump_json(),
            recsys.__version__,
            commit,
        ]
        return cls(path, sha256("\n".join(words).encode()).hexdigest())

    def of_seed(self, seed: int) -> dict[str, Json | None]:
        return dict(self._rows.get(str(seed), {}))

    def keep(self, seed: int, rows: Mapping[str, Json | None]) -> None:
        self._rows[str(seed)] = dict(rows)
        if self._key:
            write_atomically(
                self._path, json.dumps({"key": self._key, "rows": self._rows}).encode()
            )

    def done(self) -> None:
        """Whoever asks again wants it measured again."""
        self._path.unlink(missing_ok=True)
