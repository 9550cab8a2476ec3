"""The table ``served_history``: what each user was offered by each release that was live."""

from __future__ import annotations

from pyspark.sql import functions as F

from recsys.contracts import SERVED_HISTORY, TOP_N_LISTS
from recsys.lake import Lake, Written
from recsys.lake.tables import Values
from recsys.release.manifest import ReleaseManifest

SERVED = 10
"""Places of a list that are kept: what a customer sees without asking for more."""


def write_served(lake: Lake, manifest: ReleaseManifest) -> Written | None:
    """Keep the first places of every list of a release that is live; None where they are kept already.

    For the release that the pointer names, after it was swapped: one that is built and held was never served.

    Raises:
        MissingInput: the release's table of lists is gone.
    """
    release: dict[str, Values] = {"run_date": manifest.run_date, "release_id": manifest.release_id}
    if not lake.read_or_empty(SERVED_HISTORY, **release).isEmpty():
        return None
    version = manifest.tables[TOP_N_LISTS.name].version
    lists = lake.read(TOP_N_LISTS, version=version, as_of=manifest.run_date)
    served = lists.select(
        F.lit(manifest.release_id).alias("release_id"),
        F.lit(manifest.run_date).alias("run_date"),
        "user_id",
        F.slice("item_ids", 1, SERVED).alias("item_ids"),
        F.slice("sources", 1, SERVED).alias("sources"),
        "model_version",
    )
    return lake.replace(served, SERVED_HISTORY, release)
