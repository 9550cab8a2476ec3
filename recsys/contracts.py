"""Each table once: its key, its columns and what they mean. Reviewers read this file first.

``recsys.lake`` creates Delta tables from these contracts: meanings become column comments, ``required``
becomes NOT NULL, ``checks`` become CHECK constraints. Key uniqueness is checked on every write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recsys import columns as c
from recsys.columns import Column

WINDOWS_DAYS = (7, 28, 90)
EVENT_TYPES = ("view", "cart", "purchase", "return", "search", "impression", "click")


@dataclass(frozen=True)
class TableContract:
    """What a table promises: one row per ``key``, these columns in this order."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    replaced_by: tuple[str, ...] = ()
    """The columns whose values name the rows that one write replaces."""
    partitioned_by: tuple[str, ...] = ()
    checks: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _by_day(
    name: str, meaning: str, key: tuple[str, ...], *columns: Column, **checks: str
) -> TableContract:
    """A table that is replaced one ``as_of`` at a time."""
    return TableContract(
        name=name,
        meaning=meaning,
        key=(*key, "as_of"),
        columns=columns,
        replaced_by=("as_of",),
        partitioned_by=("as_of",),
        checks=checks,
    )


EVENTS = TableContract(
    name="events",
    meaning="One observed act: a view, a purchase, a return. Sorted by time within each write, not partitioned",
    key=("event_id",),
    columns=(
        c.EVENT_ID, c.EVENT_TYPE, c.USER_ID, c.ITEM_ID, c.EVENT_TS, c.EVENT_DATE, c.QUANTITY,
        c.UNIT_PRICE, c.SESSION_ID, c.QUERY, c.SOURCE, c.SOURCE_FILE, c.PLACEMENT, c.SHOWN_RANK,
        c.RELEASE, c.REQUEST_ID, c.ATTRIBUTES,
    ),
    replaced_by=("source", "source_file"),
    checks={
        "known_event_type": "event_type IN ('" + "', '".join(EVENT_TYPES) + "')",
        "quantity_positive": "quantity IS NULL OR quantity > 0",
        "unit_price_not_negative": "unit_price IS NULL OR unit_price >= 0",
        "item_or_search": "item_id IS NOT NULL OR event_type = 'search'",
    },
)  # fmt: skip

ITEMS = TableContract(
    name="items",
    meaning="What was known about an item, and since when; as of a day, the latest valid_from before it holds",
    key=("item_id", "valid_from", "source", "source_file"),
    columns=(
        c.ITEM_ID.but(required=True), c.VALID_FROM, c.TITLE, c.CATEGORY, c.BRAND, c.PRICE, c.STOCK,
        c.TEXT, c.IMAGE, c.SOURCE, c.SOURCE_FILE, c.ATTRIBUTES,
    ),
    replaced_by=("source", "source_file"),
)  # fmt: skip

USERS = TableContract(
    name="users",
    meaning="What was known about a user, and since when; as of a day, the latest valid_from before it holds",
    key=("user_id", "valid_from", "source", "source_file"),
    columns=(
        c.USER_ID.but("The customer as the shop knows them", required=True), c.VALID_FROM, c.SEGMENT,
        c.SOURCE, c.SOURCE_FILE, c.ATTRIBUTES,
    ),
    replaced_by=("source", "source_file"),
)  # fmt: skip

QUARANTINE = TableContract(
    name="quarantine",
    meaning="Raw rows that were refused, each with all its reasons; raw = accepted + quarantined + duplicates",
    key=("source", "source_file", "row_hash", "copy"),
    columns=(c.SOURCE, c.SOURCE_FILE, c.ROW_HASH, c.COPY, c.RAW_ROW, c.REASONS),
    replaced_by=("source", "source_file"),
)

DATA_QUALITY = TableContract(
    name="data_quality",
    meaning="Counts and checks of what came in: reconciliation by file, volumes by day and segment, capped users",
    key=("run_date", "job", "check", "source", "source_file", "subject"),
    columns=(
        c.RUN_DATE, Column("job", "string", "The job that counted", required=True), c.CHECK, c.SOURCE,
        c.SOURCE_FILE, c.SUBJECT, c.VALUE, c.WANTED, c.VERDICT, c.REASON,
    ),
    replaced_by=("run_date", "job"),
)  # fmt: skip

VOCABULARIES = TableContract(
    name="vocabularies",
    meaning="The versioned bijection between ids and dense numbers; append-only",
    key=("kind", "version", "id"),
    columns=(c.KIND, c.VERSION, c.ID, c.NUM),
    replaced_by=("version",),
    partitioned_by=("version",),
    checks={"num_from_one": "num >= 1"},
)

_COUNTS = tuple(
    column
    for days in WINDOWS_DAYS
    for column in (
        c.num("events", days, "Events of any type"),
        c.num("purchases", days, "Purchase events"),
        c.num("returns", days, "Return events"),
        c.amount(days),
    )
)

USER_FEATURES = _by_day(
    "user_features",
    "What a user did in the windows before as_of; users without events in 90 days are absent",
    ("user_id",),
    c.USER_ID.but("External user id", required=True), c.AS_OF, c.SEGMENT, *_COUNTS,
    c.num("items", 90, "Distinct items bought"), c.num("sessions", 90, "Distinct sessions"),
    c.DAYS_SINCE_LAST_EVENT, c.DAYS_SINCE_LAST_PURCHASE, c.AGE_DAYS, c.RETURN_RATE_90D,
)  # fmt: skip

ITEM_FEATURES = _by_day(
    "item_features",
    "What happened to an item in the windows before as_of; every item of the vocabulary has a row",
    ("item_id",),
    c.ITEM_ID.but("External item id", required=True), c.AS_OF, *_COUNTS,
    c.num("users", 28, "Distinct buyers"),
    c.DAYS_SINCE_LAST_EVENT, c.DAYS_SINCE_LAST_PURCHASE, c.AGE_DAYS, c.RETURN_RATE_90D,
    c.PRICE, c.PRICE_POSITION, c.POPULARITY_28D, c.POPULARITY_TREND,
)  # fmt: skip

HISTORIES = _by_day(
    "histories",
    "A user's past items of the types that signals call history, oldest first, the newest features.max_history",
    ("user_id",),
    c.USER_ID.but("External user id", required=True), c.AS_OF, c.SEGMENT, c.ITEM_IDS,
    c.HISTORY_ITEM_NUMS, c.EVENT_TYPES, c.AGES_DAYS, c.IS_CAPPED,
    lengths_agree="size(item_ids) = size(item_nums) AND size(item_ids) = size(event_types) "
    "AND size(item_ids) = size(ages_days)",
)  # fmt: skip

SEEN_ITEMS = _by_day(
    "seen_items",
    "The items that signals call seen for a user, at as_of; what exclude_seen leaves out",
    ("user_id",),
    c.USER_ID.but("External user id", required=True), c.AS_OF,
    c.HISTORY_ITEM_NUMS.but("Numbers of the seen items, ascending; vocabulary version = as_of"),
)  # fmt: skip

ITEM_SIMILARITY = _by_day(
    "item_similarity",
    "Item-item cosine with shrinkage over users and sessions, the best candidates.neighbours per item",
    ("item_id", "similar_item_id"),
    c.ITEM_ID.but(required=True), c.AS_OF, c.SIMILAR_ITEM_ID, c.ITEM_NUM, c.SIMILAR_ITEM_NUM, c.SCORE,
    c.NUM_USERS.but("Users and sessions with both items"),
)  # fmt: skip

TRANSITIONS = _by_day(
    "transitions",
    "What is taken up after an item: gaps weighted 1/gap, normalised by degrees, with shrinkage",
    ("item_id", "next_item_id"),
    c.ITEM_ID.but(required=True), c.AS_OF, c.NEXT_ITEM_ID, c.ITEM_NUM, c.NEXT_ITEM_NUM, c.SCORE,
    c.NUM_STEPS,
)  # fmt: skip

REORDER_INTERVALS = _by_day(
    "reorder_intervals",
    "How often and after how many days an item is taken again, leaning on the whole shop where few did",
    ("item_id",),
    c.ITEM_ID.but(required=True), c.AS_OF, c.ITEM_NUM, c.SHARE_AGAIN, c.MEDIAN_DAYS, c.LOG_SPREAD,
    c.NUM_USERS.but("Users who had it"), c.NUM_AGAIN,
)  # fmt: skip

POPULARITY = _by_day(
    "popularity",
    "Buyers per item in the candidates.popularity_days before as_of, overall (segment '') and by segment",
    ("segment", "item_id"),
    c.SEGMENT.but("Segment, '' for the whole shop", required=True), c.AS_OF,
    c.ITEM_ID.but(required=True), c.ITEM_NUM, c.SCORE, c.NUM_USERS, c.RANK,
)  # fmt: skip

TRAINING_EXAMPLES = _by_day(
    "training_examples",
    "Windows of a user's history as fixed-width blobs that the loader turns into tensors without per-row Python",
    ("example_id",),
    c.EXAMPLE_ID, c.AS_OF, c.USER_ID.but(required=True), c.USER_NUM, c.ITEM_NUMS_PACKED,
    c.AGES_DAYS_PACKED, c.TARGETS_PACKED, c.NUM_EVENTS,
)  # fmt: skip

ITEM_VECTORS = _by_day(
    "item_vectors",
    "The trained item table; the rows that scoring gathers and multiplies with",
    ("item_id",),
    c.ITEM_ID.but(required=True), c.AS_OF, c.ITEM_NUM, c.VECTOR, c.MODEL_VERSION,
)  # fmt: skip

METRICS = TableContract(
    name="metrics",
    meaning="Every recommender's figures on the choosing and the measuring window, with intervals",
    key=("run_date", "window", "recommender", "targets", "metric", "k"),
    columns=(
        c.RUN_DATE, c.WINDOW, c.AS_OF.but("The cut-off that everything was fitted before"), c.RECOMMENDER,
        c.TARGETS, c.METRIC, c.K, c.VALUE, c.LOW, c.HIGH, c.NUM_USERS.but("Users measured"),
    ),
    replaced_by=("run_date",),
)  # fmt: skip

METRIC_SLICES = TableContract(
    name="metric_slices",
    meaning="NDCG and recall of the blend, the live recipe and the best baseline by parts of users and of targets",
    key=("run_date", "window", "recommender", "slice", "part", "metric", "k"),
    columns=(
        c.RUN_DATE, c.WINDOW, c.RECOMMENDER, c.SLICE, c.PART,
        c.METRIC.but("ndcg, recall, and of the blend what it has more than another recommender: ndcg_above_…"),
        c.K, c.VALUE.but("The figure; null where there are too few users"), c.LOW, c.HIGH,
        c.NUM_USERS.but("Users in the part; of targets, those who have one in it"), c.NUM_TARGETS, c.ENOUGH,
    ),
    replaced_by=("run_date",),
)  # fmt: skip

GATE_VERDICTS = TableContract(
    name="gate_verdicts",
    meaning="What each rule of the gate found and decided",
    key=("run_date", "rule"),
    columns=(c.RUN_DATE, c.RULE, c.VALUE, c.WANTED, c.VERDICT, c.REASON),
    replaced_by=("run_date",),
)

TOP_N_LISTS = _by_day(
    "top_n_lists",
    "Each user's best items, best first; the view top_n has a row per (user_id, as_of, rank)",
    ("user_id",),
    c.USER_ID.but("External user id", required=True), c.AS_OF, c.ITEM_IDS, c.SCORES, c.SOURCES,
    c.MODEL_VERSION,
    lengths_agree="size(item_ids) = size(scores) AND size(item_ids) = size(sources)",
)  # fmt: skip

SIMILAR_ITEMS = _by_day(
    "similar_items",
    "The shelf beside an item, best first",
    ("item_id", "rank"),
    c.ITEM_ID.but(required=True),
    c.AS_OF,
    c.RANK,
    c.SIMILAR_ITEM_ID,
    c.SCORE,
    rank_from_one="rank >= 1",
)

ALSO_BOUGHT = _by_day(
    "also_bought",
    "What customers take up after an item, best first",
    ("item_id", "rank"),
    c.ITEM_ID.but(required=True),
    c.AS_OF,
    c.RANK,
    c.NEXT_ITEM_ID,
    c.SCORE,
    rank_from_one="rank >= 1",
)

POPULAR_ITEMS = _by_day(
    "popular_items",
    "What a visitor we know nothing about is offered, by segment ('' for the whole shop), best first",
    ("segment", "rank"),
    c.SEGMENT.but("Segment, '' for the whole shop", required=True),
    c.AS_OF,
    c.RANK,
    c.ITEM_ID.but(required=True),
    c.SCORE,
    rank_from_one="rank >= 1",
)

RULES = _by_day(
    # One row per rule, not per item: the row says what the rule is and what it did, also where it took nothing,
    # and is the same row as long as rule and items are. The view rule_items has a row per item.
    "rules",
    "The rules of the lists in force, for whom they are and what each one took",
    ("rule", "segment"),
    c.RULE.but("Name of the rule: in rules.catalogue of conf, or of one that every shop has"), c.AS_OF,
    c.SEGMENT.but("The users it is for; '' for everybody", required=True), c.STAGE, c.DEFINITION,
    c.THRESHOLD, c.RULE_ITEM_IDS, c.NUM_ITEMS, c.NUM_ITEMS_ALONE, c.NUM_RULED_USERS, c.NUM_PLACES,
    known_stage="stage IN (1, 3)",
)  # fmt: skip

RELEASES = TableContract(
    name="releases",
    meaning="What was published, pinned or rolled back, when and why; written after the pointer, which is the truth",
    key=("release_id", "action", "at"),
    columns=(
        c.RELEASE_ID, c.RUN_DATE, c.ACTION, c.AT, c.MODEL_VERSION, c.MODEL_AGE_DAYS, c.REASON, c.MANIFEST,
    ),
)  # fmt: skip

SERVED_HISTORY = TableContract(
    name="served_history",
    meaning="The first ten of each user's list, by release that was live; what a customer was offered on a day",
    key=("release_id", "user_id"),
    columns=(
        c.RELEASE_ID, c.RUN_DATE, c.USER_ID.but("External user id", required=True),
        c.ITEM_IDS.but("The first ten items of the list, best first"),
        c.SOURCES.but("Why each of them is there"), c.MODEL_VERSION,
    ),
    replaced_by=("run_date", "release_id"),
    partitioned_by=("run_date",),
)  # fmt: skip

CONSISTENCY = TableContract(
    name="consistency",
    meaning="What an audit found: a row for each two copies of a release's answers that were compared",
    key=("run_date", "release_id", "one_copy", "other_copy"),
    columns=(
        c.RUN_DATE.but("The day that the audit was started for"), c.RELEASE_ID, c.ONE_COPY,
        c.OTHER_COPY, c.CHECKED, c.DIFFERING, c.EXAMPLES,
        c.VERDICT.but("ok, differs, unreadable, or skipped (there was nothing to ask)", required=True),
        c.REASON, c.AT,
    ),
    replaced_by=("run_date",),
)  # fmt: skip

CLEAN_UPS = TableContract(
    name="clean_ups",
    meaning="What each night's clean_up took away, and from where",
    key=("run_date", "store"),
    columns=(
        c.RUN_DATE, c.STORE, c.BYTES_BEFORE, c.BYTES_AFTER, c.REMOVED,
        c.REASON.but("What keeps more than conf asks for: a release, a job that runs"), c.AT,
    ),
    replaced_by=("run_date",),
)  # fmt: skip

TABLES: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        EVENTS, ITEMS, USERS, QUARANTINE, DATA_QUALITY, VOCABULARIES, USER_FEATURES, ITEM_FEATURES,
        HISTORIES, SEEN_ITEMS, ITEM_SIMILARITY, TRANSITIONS, REORDER_INTERVALS, POPULARITY, TRAINING_EXAMPLES,
        ITEM_VECTORS, METRICS, METRIC_SLICES, GATE_VERDICTS, TOP_N_LISTS, SIMILAR_ITEMS, ALSO_BOUGHT,
        POPULAR_ITEMS, RULES, RELEASES, SERVED_HISTORY, CONSISTENCY, CLEAN_UPS,
    )
}  # fmt: skip
