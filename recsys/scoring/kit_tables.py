"""Build a kit from the tables as of a day. Everything that is collected here is item-sized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array

from recsys import contracts
from recsys.blocked import blocked_items
from recsys.candidates.reorders import Reorders
from recsys.config import RecsysConfig
from recsys.config.rules import RulesConfig
from recsys.errors import MissingInput, Refused
from recsys.lake import Lake
from recsys.lake.as_of import known_before, numbers
from recsys.scoring.kit import Kit
from recsys.scoring.masks import (
    ATTRIBUTE_PREFIX,
    Facts,
    Mask,
    allowed_under,
    masks_of,
    unknown_names,
)

log = structlog.get_logger()

GROUPS = ("category", "brand")
"""What list rules count by."""


@dataclass(frozen=True)
class RuledKit:
    """A kit, and the rules that made its masks."""

    kit: Kit
    masks: tuple[Mask, ...]


def build_kit(lake: Lake, config: RecsysConfig, as_of: date) -> Kit:
    """A kit as of a cut-off of evaluation, under today's rules.

    A rule that would leave nothing is left out with a warning: the catalogue of that day may not have known
    yet what the rule asks for, and lists are not made from here.
    """
    return _build(lake, config, as_of, partial(_warn_of_nothing_left, as_of)).kit


def build_ruled_kit(lake: Lake, config: RecsysConfig, as_of: date) -> RuledKit:
    """The catalogue, masks, item-item matrices and popularity as of ``as_of``, without models.

    Raises:
        MissingInput: the vocabulary of that day, or a table, is not there; the message names the job.
        Refused: a rule leaves no item for somebody; the message names it.
        CorruptArtifact: the file of items that the person on call blocked is damaged.
    """
    return _build(lake, config, as_of, partial(_refuse_nothing_left, as_of))


def build_ruled_again(
    frozen: Lake, lake: Lake, config: RecsysConfig, as_of: date, rules_as_of: date
) -> RuledKit:
    """The kit of ``as_of`` from the tables in ``frozen``, its masks from what is known of the items in ``lake``
    by ``rules_as_of``. Groups of list rules stay those of ``as_of``.

    Raises: as ``build_ruled_kit``.
    """
    refuse = partial(_refuse_nothing_left, rules_as_of)
    return _build(frozen, config, as_of, refuse, ruled_by=(lake, rules_as_of))


def allowed_items(
    lake: Lake,
    config: RecsysConfig,
    item_ids: pa.StringArray,
    as_of: date,
    segments: tuple[str, ...],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """``Kit.allowed`` and ``Kit.segment_allowed`` as ``build_kit`` makes them, without the tables of candidates.

    ``segments`` name every segment of a rule; the first is ''.
    """
    facts = _facts(lake, config.rules, item_ids, as_of)
    blocked_now = tuple(sorted(blocked_items(config.paths)))
    masks = masks_of(config.rules, facts, blocked_now)
    return allowed_under(masks, facts, segments, partial(_warn_of_nothing_left, as_of))


def _build(
    lake: Lake,
    config: RecsysConfig,
    as_of: date,
    leaves_nothing: Callable[[Mask, str, int], None],
    *,
    ruled_by: tuple[Lake, date] | None = None,
) -> RuledKit:
    rules = config.rules
    item_ids = _item_ids(lake, as_of)
    today, ruled_as_of = ruled_by or (lake, as_of)
    facts = _facts(today, rules, item_ids, ruled_as_of)
    grouped = _facts(lake, rules, item_ids, as_of) if ruled_by and rules.limits else facts
    blocked_now = tuple(sorted(blocked_items(config.paths)))
    masks = masks_of(rules, facts, blocked_now)
    buyers, segments = _buyers(
        lake.read(contracts.POPULARITY, as_of=as_of), len(item_ids), rules.segments
    )
    _warn_of_unknown_names(today, rules, facts, blocked_now, ruled_as_of)
    allowed, segment_allowed = allowed_under(masks, facts, segments, leaves_nothing)
    similarity = lake.read(contracts.ITEM_SIMILARITY, as_of=as_of)
    transitions = lake.read(contracts.TRANSITIONS, as_of=as_of)
    kit = Kit(
        as_of=as_of,
        item_ids=item_ids,
        allowed=allowed,
        groups={name: _codes(grouped.table[name]) for name in GROUPS},
        buyers=buyers,
        segments=segments,
        similarity=_matrix(similarity, "similar_item_num", len(item_ids)),
        transitions=_matrix(transitions, "next_item_num", len(item_ids)),
        segment_allowed=segment_allowed,
        prior_buyers=config.scoring.segment_prior_buyers,
        reorders=_reorders(lake, as_of, len(item_ids)),
    )
    return RuledKit(kit, masks)


def _item_ids(lake: Lake, as_of: date) -> pa.StringArray:
    """External id by number; '' at 0."""
    ids = ids_by_number(lake.vocabulary(as_of))
    if len(ids) == 1:
        raise MissingInput(
            f"no item vocabulary as of {as_of}: run build_features for that day first"
        )
    return ids


def ids_by_number(vocabulary: DataFrame) -> pa.StringArray:
    """The items' external ids, each at its number; '' at 0 and where no item has the number."""
    found = numbers(vocabulary, "item").toArrow()
    nums = _ints(found, "item_num")
    ids = np.full(int(nums.max(initial=0)) + 1, "", dtype=object)
    ids[nums] = found.column("item_id").to_numpy()
    return pa.array(ids, pa.string())


def _facts(lake: Lake, rules: RulesConfig, item_ids: pa.StringArray, as_of: date) -> Facts:
    """What the table items says of each item, by number; of the attributes the keys that rules name."""
    keys = sorted({
        key
        for rule in rules.catalogue.values()
        for items in (rule.hide, rule.only) if items
        for key in items.attributes
    })  # fmt: skip
    items = lake.read_or_empty(contracts.ITEMS)
    # Key by key: what one source says of an item does not unsay what another said of its other attributes.
    named = items.select(
        "item_id", "valid_from", "source", "source_file", "category", "brand", "price", "stock",
        *(F.col("attributes")[key].alias(f"attribute {n}") for n, key in enumerate(keys)),
    )  # fmt: skip
    known = known_before(named, "item_id", as_of).select(
        "item_id", "category", "brand", F.col("price").cast("double").alias("price"),
        (F.col("stock") == 0).alias("out_of_stock"),
        *(f"`attribute {n}`" for n in range(len(keys))),
    ).toArrow()  # fmt: skip
    names = [*known.column_names[:5], *(f"{ATTRIBUTE_PREFIX}{key}" for key in keys)]
    ids = pc.if_else(pc.equal(item_ids, ""), pa.scalar(None, pa.string()), item_ids)
    rows = pc.index_in(ids, value_set=known.column("item_id"), skip_nulls=True)
    return Facts(known.rename_columns(names).take(rows).set_column(0, "item_id", ids))


def _warn_of_unknown_names(
    lake: Lake, rules: RulesConfig, facts: Facts, blocked_now: tuple[str, ...], as_of: date
) -> None:
    segments: set[str] = set()
    if rules.segments:
        users = lake.read_or_empty(contracts.USERS).where(F.col("valid_from") < F.lit(as_of))
        named = users.where(F.col("segment").isin(*rules.segments)).select("segment").distinct()
        segments = {row["segment"] for row in named.collect()}
    for unknown in unknown_names(rules, facts, segments, blocked_now):
        log.warning(
            "rule_names_unknown", rule=unknown.rule, key=unknown.key, count=len(unknown.names),
            examples=list(unknown.names[:5]), as_of=str(as_of),
        )  # fmt: skip


def _warn_of_nothing_left(as_of: date, mask: Mask, segment: str, left: int) -> None:
    log.warning(
        "rule_not_applied", rule=mask.rule, segment=segment, as_of=str(as_of),
        reason=f"it would take the {left} items that the other rules leave",
    )  # fmt: skip


def _refuse_nothing_left(as_of: date, mask: Mask, segment: str, left: int) -> None:
    whom = f"the users of segment {segment!r}" if segment else "anybody"
    raise Refused(
        f"rule {mask.rule!r} leaves nothing to offer to {whom} as of {as_of}: it takes {int(mask.hidden_N.sum())} "
        f"items, and all {left} that the rules before it leave. It reads {mask.definition[:200]}; mend it in the "
        "section rules of conf, or the items it looks at. Nothing was written"
    )


def _matrix(pairs: DataFrame, column: str, width: int) -> csr_array:
    """Row: item_num; column: the other item; entries ascend. Scores that are not above 0 say nothing."""
    found = pairs.where("score > 0").select("item_num", column, "score").toArrow()
    return _csr(
        _ints(found, "item_num"), _ints(found, column), _doubles(found, "score"), (width, width)
    )


def _buyers(
    popularity: DataFrame, width: int, of_rules: tuple[str, ...]
) -> tuple[csr_array, tuple[str, ...]]:
    """Buyers by segment and item; the whole shop ('') first, then the segments by name.

    The segments that rules name have a row too, so that a rule holds where nobody has bought yet.
    """
    found = popularity.select(
        "segment", "item_num", F.coalesce("num_users", "score").alias("score")
    ).toArrow()
    names = found.column("segment").to_numpy(zero_copy_only=False)
    segments = ("", *sorted({*names, *of_rules} - {""}))
    rows = (
        np.searchsorted(np.array(segments, dtype=object), names)
        if len(names)
        else np.zeros(0, np.int64)
    )
    shape = (len(segments), width)
    return _csr(rows, _ints(found, "item_num"), _doubles(found, "score"), shape), segments


def _reorders(lake: Lake, as_of: date, width: int) -> Reorders | None:
    """None where there is no such table yet: what is there was built before there was one."""
    if not lake.exists(contracts.REORDER_INTERVALS):
        return None
    intervals = lake.read(contracts.REORDER_INTERVALS, as_of=as_of)
    found = intervals.select("item_num", "share_again", "median_days", "log_spread").toArrow()
    again, log_days, spread = np.zeros(width), np.zeros(width), np.ones(width)
    nums = _ints(found, "item_num")
    again[nums] = _doubles(found, "share_again")
    log_days[nums] = np.log(_doubles(found, "median_days"))
    spread[nums] = _doubles(found, "log_spread")
    return Reorders(again, log_days, spread)


def _csr(
    rows: NDArray[Any], columns: NDArray[Any], values: NDArray[np.float64], shape: tuple[int, int]
) -> csr_array:
    order = np.lexsort((columns, rows))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return csr_array(
        (values[order], columns[order].astype(np.int32), offsets.astype(np.int32)), shape=shape
    )


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).to_numpy(zero_copy_only=False).astype(np.int64)
    return values


def _doubles(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (
        table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    )
    return values


def _codes(names: pa.ChunkedArray) -> NDArray[np.int32]:
    """A number per distinct name, ascending, so that nothing depends on the order of rows; -1 for null."""
    named = pc.unique(names.combine_chunks()).drop_null()
    codes = pc.index_in(names, value_set=named.take(pc.sort_indices(named)), skip_nulls=True)
    return np.asarray(pc.fill_null(codes, -1), dtype=np.int32)
