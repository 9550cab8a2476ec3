"""Whether a release has lists for about as many users as there are."""

from __future__ import annotations

import structlog

from recsys.config.places import PathsConfig
from recsys.contracts import HISTORIES, TOP_N_LISTS
from recsys.errors import CorruptArtifact, Refused
from recsys.release.manifest import ReleaseManifest
from recsys.release.pointer import live_release

log = structlog.get_logger()


def check_coverage(paths: PathsConfig, manifest: ReleaseManifest, min_share: float) -> None:
    """Keep a release from going live that has lists for far fewer users than there are.

    Those who were to be scored are the ones with a row of lists, empty or not, and the ones with a history. A live
    release that does not say how many lists it has, or is damaged, is not asked.

    Raises:
        Refused: too few users have a list.
    """
    have = manifest.users_with_a_list or 0
    tables = (TOP_N_LISTS.name, HISTORIES.name)
    scored = max(manifest.tables[name].rows for name in tables if name in manifest.tables)
    wanted = {"were to be scored": scored}
    if live := _live(paths):
        wanted[f"have one in {live.release_id}, which is live"] = live.users_with_a_list or 0
    if short := [f"{users:,} {what}" for what, users in wanted.items() if have < min_share * users]:
        raise Refused(
            f"release {manifest.release_id} is not published: {have:,} users have a list in it that is not empty, "
            f"{' and '.join(short)} (publish.min_users_share: {min_share:g}). Look at what score_top_n said "
            f"(users_without_a_list) and at top_n_lists as of {manifest.run_date}, mend what is short and score "
            "again; if so few are right, publish this once with --set publish.min_users_share=0"
        )


def _live(paths: PathsConfig) -> ReleaseManifest | None:
    """None also where it is damaged: what replaces it must not be held up by it."""
    try:
        return live_release(paths)
    except CorruptArtifact as error:
        log.warning("live_release_unknown", problem=str(error))
        return None
