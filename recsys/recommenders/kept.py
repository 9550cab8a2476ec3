"""What a fit learned, held and saved: arrays as .npy, sparse ones as their three, the rest as JSON; no pickles."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys.errors import CorruptArtifact, MissingInput

SETTINGS = "recommender.json"
_SPARSE_PARTS = ("data", "indices", "indptr")

L = TypeVar("L")


class Kept(Generic[L]):
    """Saves and loads a recommender that is a dataclass of its settings and learns a dataclass of arrays.

    Fields of ``learns`` are arrays, ``csr_array`` or None; ``fit`` sets ``learned``.
    """

    name: ClassVar[str]
    learns: ClassVar[type[Any]]
    _learned: L | None = None

    @property
    def learned(self) -> L:
        """Raises MissingInput before ``fit`` or ``load``."""
        if self._learned is None:
            raise MissingInput(f"{self.name} has learned nothing yet: call fit or load first")
        return self._learned

    @learned.setter
    def learned(self, found: L) -> None:
        self._learned = found

    def save(self, folder: Path) -> None:
        kinds: dict[str, str] = {}
        for field in fields(self.learns):
            value = getattr(self.learned, field.name)
            kinds[field.name] = _kind(value)
            for file, array in _files(field.name, value).items():
                np.save(folder / file, array, allow_pickle=False)
        about = {
            "recommender": self.name,
            "settings": asdict(self),  # type: ignore[call-overload]  # a subclass is a dataclass
            "learned": kinds,
            "sha256": {path.name: _sha256(path) for path in sorted(folder.glob("*.npy"))},
        }
        (folder / SETTINGS).write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = _about(folder, cls.name)
        try:
            made = cls(**about["settings"])
            found = {name: _read(folder, name, kind) for name, kind in about["learned"].items()}
            for file, sha256 in about["sha256"].items():
                if _sha256(folder / file) != sha256:
                    raise ValueError(f"{file} is not the file that was saved")
            made.learned = cls.learns(**found)
        except (KeyError, TypeError, AttributeError, ValueError, OSError, EOFError) as error:
            raise CorruptArtifact(
                f"{folder} holds no {cls.name} that can be read ({str(error)[:200]}): fit it again"
            ) from None
        return made


def _about(folder: Path, name: str) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        about = json.loads(path.read_bytes())
        saved = about["recommender"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptArtifact(
            f"{path} cannot be read ({error}): fit {name} and save it again"
        ) from None
    if saved != name:
        raise CorruptArtifact(f"{path} is of the recommender {saved!r}, not {name}")
    return dict(about)


def _kind(value: object) -> str:
    if value is None:
        return "none"
    return "sparse" if isinstance(value, csr_array) else "dense"


def _files(name: str, value: Any) -> dict[str, NDArray[Any]]:
    match _kind(value):
        case "none":
            return {}
        case "dense":
            return {f"{name}.npy": value}
    parts = {f"{name}.{part}.npy": getattr(value, part) for part in _SPARSE_PARTS}
    return parts | {f"{name}.shape.npy": np.array(value.shape, dtype=np.int64)}


def _read(folder: Path, name: str, kind: str) -> Any:
    def array(file: str) -> NDArray[Any]:
        found: NDArray[Any] = np.load(folder / file, allow_pickle=False)
        return found

    match kind:
        case "none":
            return None
        case "dense":
            return array(f"{name}.npy")
    data, indices, indptr = (array(f"{name}.{part}.npy") for part in _SPARSE_PARTS)
    return csr_array((data, indices, indptr), shape=tuple(array(f"{name}.shape.npy").tolist()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
