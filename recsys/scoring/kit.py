"""Everything a worker scores with, as one folder of memory-mapped files.

Numbers are rows and columns: arrays have num_items + 1 places, place 0 is padding and never offered.
The folder's name holds the hash of its content, so a worker's cache can trust the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import SparkFiles
from scipy.sparse import csr_array

from recsys.candidates.reorders import Reorders
from recsys.records import ENCODER_FILE, ITEM_VECTORS_FILE, MANIFEST_FILE
from recsys.scoring.bundle import ModelBundle, open_bundle
from recsys.scoring.ranking_bundle import RankingBundle, open_ranking, ranking_files

MATRICES = ("buyers", "similarity", "transitions")
GROUP_PREFIX = "group_"
"""Of the files of ``Kit.groups``."""
REORDER_PREFIX = "reorder_"
"""Of those of ``Kit.reorders``."""

MODEL_FILES = (MANIFEST_FILE, ENCODER_FILE, ITEM_VECTORS_FILE)
MOST_BYTES = 128 << 20
"""Of the rows by segment, each as long as the catalogue, that are kept between batches."""


@dataclass(frozen=True)
class Kit:
    """The catalogue, the rules' masks, the item-item matrices and the popularity as of one day."""

    as_of: date
    """Ages of events are days before it."""
    item_ids: pa.StringArray
    """External id by number; place 0 is empty."""
    allowed: NDArray[np.bool_]
    """False: padding, or hidden from everybody by a rule; such items are in no list."""
    groups: Mapping[str, NDArray[np.int32]]
    """``category`` and ``brand``: the item's group by number; -1 where unknown. Stage 3 counts by them."""
    buyers: csr_array
    """[segments, num_items + 1]; row 0 is the whole shop. Buyers in the popularity window."""
    segments: tuple[str, ...]
    """Names of the rows of ``buyers`` and of ``segment_allowed``; the first is ''."""
    similarity: csr_array
    """Row: item of the history; column: item it goes with."""
    transitions: csr_array
    segment_allowed: NDArray[np.bool_] | None = None
    """[segments, num_items + 1], within ``allowed``; None where no rule is for a segment alone."""
    prior_buyers: float = 20.0
    reorders: Reorders | None = None
    """An item that nobody had is never due; None where no table says when items are."""
    bundles: Mapping[str, ModelBundle] = field(default_factory=dict)
    """By model_version."""
    rankings: Mapping[str, RankingBundle] = field(default_factory=dict)
    """The ranking models of stage 2, by model_version."""
    _popularity: dict[int, NDArray[np.float64]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def width(self) -> int:
        """num_items + 1."""
        return len(self.allowed)

    def allowed_in(self, segment: int) -> NDArray[np.bool_]:
        """What users of a segment (its row) may be shown at all."""
        return self.allowed if self.segment_allowed is None else self.segment_allowed[segment]

    def popularity(self, segment: int) -> NDArray[np.float64]:
        """Share of the best seller's buyers, 0 to 1, leaning on the whole shop where the segment is small."""
        if segment not in self._popularity:
            own = self.buyers[[segment]].toarray()[0]
            if segment:
                own = own + self.prior_buyers * self.popularity(0)
            if (len(self._popularity) + 1) * 8 * self.width > MOST_BYTES:
                for other in [one for one in self._popularity if one]:  # each leans on the first
                    del self._popularity[other]
            self._popularity[segment] = _share_of_best(own)
        return self._popularity[segment]


def _share_of_best(buyers: NDArray[np.float64]) -> NDArray[np.float64]:
    best = buyers.max(initial=0.0)
    return buyers / best if best > 0 else np.zeros_like(buyers)


def save_kit(
    kit: Kit, models: Mapping[str, Path], root: Path, *, rankings: Mapping[str, Path] | None = None
) -> Path:
    """Write the kit and the files of the named models and ranking models under ``root``; returns the folder.

    The same content gives the same folder, and is not written again.
    """
    arrays: dict[str, NDArray[Any]] = {"allowed": kit.allowed}
    arrays |= {f"{GROUP_PREFIX}{name}": groups for name, groups in kit.groups.items()}
    if kit.segment_allowed is not None:
        arrays["segment_allowed"] = kit.segment_allowed
    if kit.reorders is not None:
        arrays |= {
            f"{REORDER_PREFIX}{f.name}": getattr(kit.reorders, f.name) for f in fields(Reorders)
        }
    for name in MATRICES:
        matrix: csr_array = getattr(kit, name)
        arrays |= {
            f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")
        }
    facts = json.dumps(
        {
            "as_of": kit.as_of.isoformat(),
            "segments": kit.segments,
            "prior_buyers": kit.prior_buyers,
        }
    )
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    for buffer in kit.item_ids.buffers():
        digest.update(buffer or b"")
    carried = {
        **{f"models/{version}": (folder, MODEL_FILES) for version, folder in models.items()},
        **{f"rankings/{v}": (folder, ranking_files()) for v, folder in (rankings or {}).items()},
    }
    for place, (folder, _) in sorted(carried.items()):
        digest.update(place.encode() + (folder / MANIFEST_FILE).read_bytes())
    target = root / f"kit-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    draft = root / f".{target.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array)
    (draft / "facts.json").write_text(facts)
    table = pa.table({"item_id": kit.item_ids})
    with (
        pa.OSFile(str(draft / "item_ids.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table)
    for place, (folder, names) in carried.items():
        (draft / place).mkdir(parents=True)
        for name in names:
            shutil.copy2(folder / name, draft / place / name)
    os.rename(draft, target)
    return target


@lru_cache(maxsize=4)
def open_kit(folder: str) -> Kit:
    """Memory-map a kit and open its encoders; once per Python worker."""
    path = Path(folder)
    if not path.exists():  # a cluster whose workers do not share the work folder
        path = Path(SparkFiles.get(path.name))
    loaded = {file.stem: np.load(file, mmap_mode="r") for file in path.glob("*.npy")}
    facts = json.loads((path / "facts.json").read_text())
    with pa.memory_map(str(path / "item_ids.arrow")) as file:
        item_ids = pa.ipc.open_file(file).read_all().column("item_id").combine_chunks()
    width = len(loaded["allowed"])
    matrices = {
        name: csr_array(
            tuple(loaded[f"{name}_{part}"] for part in ("data", "indices", "indptr")),
            shape=(len(facts["segments"]) if name == "buyers" else width, width),
        )
        for name in MATRICES
    }  # fmt: skip
    reorders = {
        name.removeprefix(REORDER_PREFIX): values
        for name, values in loaded.items()
        if name.startswith(REORDER_PREFIX)
    }
    bundles = {
        model.name: open_bundle(model, check=False)
        for model in sorted(path.glob("models/*"))
    }  # fmt: skip
    rankings = {
        model.name: open_ranking(model, check=False)
        for model in sorted(path.glob("rankings/*"))
    }  # fmt: skip
    return Kit(
        as_of=date.fromisoformat(facts["as_of"]),
        item_ids=item_ids,
        allowed=loaded["allowed"],
        groups={
            name.removeprefix(GROUP_PREFIX): groups
            for name, groups in sorted(loaded.items())
            if name.startswith(GROUP_PREFIX)
        },
        segment_allowed=loaded.get("segment_allowed"),
        segments=tuple(facts["segments"]),
        prior_buyers=facts["prior_buyers"],
        reorders=Reorders(**reorders) if reorders else None,
        bundles=bundles,
        rankings=rankings,
        **matrices,
    )
