"""Between two full runs: lists for those whose events or rules changed, the others' carried over.

Model, numbers, item-item matrices, popularity, segments and the day that ages count to stay those of the full run
(docs/adr/0013). What comes out is what a full run with those inputs would write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date

import structlog

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.lake import Lake, RowFile
from recsys.records import ScoringRecord
from recsys.scoring.affected import Found, Scene, affected_users
from recsys.scoring.bundle import open_bundle
from recsys.scoring.carried_files import carry_over
from recsys.scoring.daily import settings_hash
from recsys.scoring.frozen import FrozenLake
from recsys.scoring.increment import Increment, LiveLists, plan, read_as_it_was
from recsys.scoring.increment_audit import (
    audit,
    audit_everybody,
    sample_of,
    sample_of_everybody,
    with_sample,
)
from recsys.scoring.kit_tables import RuledKit, build_ruled_again
from recsys.scoring.list_files import write_lists
from recsys.scoring.ranking_bundle import checked_ranking
from recsys.scoring.rule_changes import RuleChanges, rule_changes
from recsys.scoring.rule_counts import rule_rows, write_rules
from recsys.scoring.scorer import Entry, Rules
from recsys.scoring.shelves import write_shelves
from recsys.scoring.spark import ScoringTask, scoring_task

log = structlog.get_logger()


def score_changes(
    lake: Lake, config: RecsysConfig, run_date: date, live: LiveLists | None
) -> ScoringRecord:
    """Write top_n_lists, the shelves (``write_shelves``) and rules of ``run_date``, then what they were made with.

    Raises:
        Refused: a full run is due, and why; or a rule leaves nothing to offer. Nothing was written, or, where files
            went while it ran, no record, so that nothing can be published.
        CorruptArtifact: a file of the model is damaged, or the audit found a list that a full run would not give.
            Nothing was written; where the audit found it, there is no record any more, either.
    """
    step = plan(lake, config, run_date, live)
    model = step.live.model
    manifest = open_bundle(config.paths.models / model.model_version).manifest
    entry = Entry(
        model.recipe, model.model_version, model.ranking_version if model.recipe.re_ranks else ""
    )
    if entry.ranking_version:
        checked_ranking(config.paths.models / entry.ranking_version)
    frozen = FrozenLake(lake, config, step.versions)
    with read_as_it_was(step):
        ruled = build_ruled_again(frozen, lake, config, step.full_as_of, run_date)
        changes = _rule_changes(lake, config, step, ruled, entry)
    with ExitStack() as stack:
        scene = Scene(lake, frozen, config, step, entry, stack)
        with read_as_it_was(step):
            affected = affected_users(scene, ruled.kit, changes)
        ScoringRecord.discard(config.paths, run_date)
        rankings = (entry.ranking_version,) if entry.ranking_version else ()
        task = stack.enter_context(
            scoring_task(lake.spark, config, ruled.kit, (entry.model_version,), rankings)
        )
        with read_as_it_was(step, written="No list was written"):
            counted, lists_version = _write_lists(scene, task, affected)
        write_shelves(lake, ruled.kit, task.rules, config.scoring, run_date)
        known: Mapping[str, int | None] = counted if affected is None else defaultdict(lambda: None)
        write_rules(lake, rule_rows(ruled, config, task.rules, known), run_date)
    record = ScoringRecord(
        run_date=run_date,
        model_version=entry.model_version,
        model_as_of=manifest.as_of,
        model_age_days=(run_date - manifest.as_of).days,
        reason=f"what changed since {step.live.run_date}: {counted['users']} users scored with what the full run of "
        f"{step.full_as_of} used, the others' lists carried over",
        recipe=entry.recipe,
        ranking_version=entry.ranking_version,
        full_as_of=step.full_as_of,
        versions=dict(step.versions),
        settings=settings_hash(config),
        events_version=step.now.version,
        lists_version=lists_version,
    )  # fmt: skip
    record.write(config.paths)
    return record


def _rule_changes(
    lake: Lake, config: RecsysConfig, step: Increment, ruled: RuledKit, entry: Entry
) -> RuleChanges:
    live = step.live
    version = live.versions[contracts.RULES.name]
    before = lake.read(contracts.RULES, version=version, as_of=live.run_date).collect()
    rules = Rules(config.shop.exclude_seen, config.rules.limits)
    now = rule_rows(ruled, config, rules, defaultdict(lambda: None))
    return rule_changes(before, now, ruled.kit, re_ranks=bool(entry.ranking_version))


def _write_lists(
    scene: Scene, task: ScoringTask, affected: Found | None
) -> tuple[Mapping[str, int], int]:
    """The lists of those affected, scored, and the others' as they are; a sample is audited before it is committed.

    Returns ``rule_counts.count_names`` of the former, and the table's version.
    """
    scoring, live = scene.config.scoring, scene.step.live
    to = scene.lake.destination(contracts.TOP_N_LISTS, {"as_of": scene.step.now.before})
    n, partitions = scoring.n, scoring.partitions
    carried: list[RowFile] = []
    if affected is None:
        picked = sample_of_everybody(scene)
        scored = write_lists(
            scene.users(None), task, scene.entry, to, n=n, partitions=partitions, picked=picked
        )
        audit_everybody(scene, task, picked, scored.picked)
    else:
        lists, day = scene.live_table, live.run_date
        carried, kept = carry_over(lists, day, affected.ids, to, sample_of(scene))
        picked, users = list(kept), scene.users(with_sample(scene, affected.users, kept))
        scored = write_lists(
            users, task, scene.entry, to, n=n, partitions=partitions, picked=picked,
            write_picked=False,
        )  # fmt: skip
        audit(scene, kept, scored.picked)
    written = scene.lake.commit_files(to, [*carried, *scored.files])
    num_scored = scored.counted["users"]
    log.info("lists_merged", scored=num_scored, carried_over=written.rows - num_scored)
    return scored.counted, written.version
