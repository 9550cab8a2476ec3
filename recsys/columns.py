"""Every column once: its name, its type and what it means. Contracts are made of these.

Types are plain strings in Spark's spelling (``recsys.lake`` turns them into a ``StructType``), so that
the base install needs no pyspark. Amounts and quantities are decimals: their sums do not depend on order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Column:
    """One column of a table; ``meaning`` becomes the Delta column comment."""

    name: str
    type: str
    meaning: str
    required: bool = False
    """NOT NULL in Delta."""
    volatile: bool = False
    """A wall clock or a run id: left out of content hashes."""

    def but(self, meaning: str | None = None, *, required: bool | None = None) -> Column:
        """The same column with another meaning or made required in one table."""
        return replace(
            self,
            meaning=self.meaning if meaning is None else meaning,
            required=self.required if required is None else required,
        )


def _required(name: str, type_: str, meaning: str) -> Column:
    return Column(name, type_, meaning, required=True)


# Who and what
USER_ID = Column("user_id", "string", "The customer as the shop knows them; null when anonymous")
ITEM_ID = Column("item_id", "string", "The item as the shop knows it; null for searches")
ITEM_NUM = _required("item_num", "int", "Dense number of the item, from 1; see vocabularies")
SEGMENT = Column(
    "segment", "string", "The user's segment (a country, a store group), null when unknown"
)

# When
AS_OF = _required(
    "as_of", "date", "Exclusive: only events strictly before this day (shop's zone) are used"
)
RUN_DATE = _required("run_date", "date", "The day the job was started for: the first day not used")
EVENT_TS = _required("event_ts", "timestamp", "When it happened, UTC")
EVENT_DATE = _required("event_date", "date", "The day it happened, in the shop's time zone")
VALID_FROM = _required(
    "valid_from", "date", "First day on which this was known, in the shop's time zone"
)

# Events
EVENT_ID = _required("event_id", "string", "Hash of source, source file and the row's key")
EVENT_TYPE = _required(
    "event_type", "string", "view, cart, purchase, return, search, impression or click"
)
QUANTITY = Column("quantity", "decimal(18,3)", "Units, positive; null where the event has none")
UNIT_PRICE = Column("unit_price", "decimal(18,4)", "Price of one unit in the shop's currency")
SESSION_ID = Column(
    "session_id", "string", "What the shop groups by: an invoice, a basket, a visit"
)
QUERY = Column("query", "string", "The words searched for; null unless event_type is search")
SOURCE = _required("source", "string", "Name of the source description in conf")
SOURCE_FILE = _required(
    "source_file", "string", "The raw file or source partition the row came from"
)
PLACEMENT = Column(
    "placement", "string", "Where it was shown: home, basket, mail; impressions and clicks"
)
RANK = _required("rank", "int", "1-based position in the list")
SHOWN_RANK = Column("rank", "int", "1-based position at which it was shown; impressions and clicks")
RELEASE = Column("release", "string", "The release that the shown list came from")
REQUEST_ID = Column("request_id", "string", "The lookup request that the shown list answered")
ATTRIBUTES = Column(
    "attributes", "map<string,string>", "What only this shop has, by the shop's own names"
)

# Refused rows and counts
ROW_HASH = _required("row_hash", "string", "Hash of the raw row's text")
COPY = _required("copy", "int", "0 for the first row of a file with this hash, 1 for the second, …")
RAW_ROW = _required("raw_row", "string", "The row as it came")
REASONS = _required("reasons", "array<string>", "Reason codes, in conf's order")
CHECK = _required("check", "string", "What was counted or checked")
SUBJECT = _required(
    "subject", "string", "Of what: a reason code, a segment, a source, a table; empty for the whole"
)
VALUE = Column("value", "double", "What was found")
WANTED = Column("wanted", "string", "What was asked for, in words")
VERDICT = Column("verdict", "string", "ok, refused, accepted (by a person), or noted")
REASON = Column("reason", "string", "Why, for people")

# Items and users, as known
TITLE = Column("title", "string", "What people call the item")
CATEGORY = Column("category", "string", "Category path, parts divided by ' > '")
BRAND = Column("brand", "string", "Brand or maker")
PRICE = Column("price", "decimal(18,4)", "List price in the shop's currency")
STOCK = Column("stock", "bigint", "Units in stock; null means not tracked, 0 means out of stock")
TEXT = Column("text", "string", "Longer description")
IMAGE = Column("image", "string", "Path or URL of the picture")

# Vocabularies
KIND = _required("kind", "string", "item or user")
VERSION = _required(
    "version", "date", "as_of of the vocabulary; a newer version keeps every older number"
)
ID = _required("id", "string", "External id")
NUM = _required("num", "int", "Dense number, from 1; 0 is padding and never given")

# Features: NAME_7d, _28d, _90d are windows of days before as_of, exclusive of as_of itself
DAYS_SINCE_LAST_EVENT = Column("days_since_last_event", "int", "1 = the day before as_of")
DAYS_SINCE_LAST_PURCHASE = Column("days_since_last_purchase", "int", "1 = the day before as_of")
AGE_DAYS = Column("age_days", "int", "Days since the first event; 1 = the day before as_of")
RETURN_RATE_90D = Column(
    "return_rate_90d", "double", "Units returned / units bought in 90 days, 0 to 1"
)
PRICE_POSITION = Column(
    "price_position", "double", "Share of the category's items that are cheaper, 0 to 1"
)
POPULARITY_28D = Column(
    "popularity_28d", "double", "Share of the window's buyers who bought it, 0 to 1"
)
POPULARITY_TREND = Column(
    "popularity_trend",
    "double",
    "log2 of (buyers in the last 28 days + 1) / (in the 28 days before + 1)",
)
IS_CAPPED = _required(
    "is_capped", "boolean", "Above the cap on events (wholesaler, robot): left out of training"
)


def num(what: str, days: int, meaning: str) -> Column:
    """A count over a window: ``num_<what>_<days>d``."""
    return Column(f"num_{what}_{days}d", "bigint", f"{meaning} in the {days} days before as_of")


def amount(days: int) -> Column:
    """Money over a window: ``amount_<days>d``."""
    return Column(
        f"amount_{days}d",
        "double",
        f"Spent minus refunded in the {days} days before as_of, shop's currency",
    )


# Histories and training examples
ITEM_IDS = _required("item_ids", "array<string>", "Items, one per event or list place")
HISTORY_ITEM_NUMS = _required(
    "item_nums", "array<int>", "Numbers of the items; vocabulary version = as_of"
)
EVENT_TYPES = _required("event_types", "array<string>", "Type of each event")
AGES_DAYS = _required(
    "ages_days", "array<float>", "Age of each event at as_of in days, > 0, not growing"
)
EXAMPLE_ID = _required("example_id", "bigint", "Position of the example in its set, from 0")
USER_NUM = _required("user_num", "int", "Dense number of the user; vocabulary version = as_of")
ITEM_NUMS_PACKED = _required(
    "item_nums", "binary", "int32 little-endian, oldest first, left-padded with 0"
)
AGES_DAYS_PACKED = _required(
    "ages_days", "binary", "float32 little-endian, age of each event at as_of in days"
)
TARGETS_PACKED = _required(
    "targets", "binary", "uint8 per place: 1 where the event is a target, else 0"
)
NUM_EVENTS = _required("num_events", "int", "Places that are not padding")

# Candidates and vectors
SIMILAR_ITEM_ID = _required("similar_item_id", "string", "The item that goes with item_id")
SIMILAR_ITEM_NUM = _required("similar_item_num", "int", "Its number")
NEXT_ITEM_ID = _required("next_item_id", "string", "An item taken up after item_id")
NEXT_ITEM_NUM = _required("next_item_num", "int", "Its number")
SCORE = _required("score", "double", "Higher is better; not a probability")
NUM_USERS = Column("num_users", "bigint", "Distinct users (or anonymous sessions) counted")
NUM_STEPS = Column("num_steps", "bigint", "Steps from the one item to the other that were observed")
NUM_AGAIN = Column(
    "num_again", "bigint", "How often a user took the item again, half a day later or more"
)
SHARE_AGAIN = _required(
    "share_again",
    "double",
    "Part of the item's purchases after which the same user took it again, 0 to 1",
)
MEDIAN_DAYS = _required(
    "median_days", "double", "Median of the days between two purchases by one user"
)
LOG_SPREAD = _required("log_spread", "double", "Standard deviation of the logarithm of those days")
VECTOR = _required("vector", "array<float>", "Row of the item table, embedding_dim wide")
MODEL_VERSION = _required(
    "model_version", "string", "Content hash of the weights, or the name of a baseline"
)

# Lists
SCORES = _required("scores", "array<float>", "Score of each item, not growing")
SOURCES = _required(
    "sources", "array<string>", "Why each item is there: model, similar, repeat, popular"
)

# Metrics and the gate
WINDOW = _required("window", "string", "choosing or measuring: which 28 days the figure is from")
RECOMMENDER = _required("recommender", "string", "Who made the lists")
TARGETS = _required("targets", "string", "all purchases, or first: items the user had never bought")
METRIC = _required(
    "metric",
    "string",
    "recall, ndcg, mrr, precision, f1, hit_rate, map; of lists coverage, gini, category_diversity, vector_diversity, "
    "novelty, popularity_lift, repeat_share; of probabilities auc, log_loss, calibration_error",
)
K = _required("k", "int", "Cut-off of the metric; 0 where it has none")
LOW = Column(
    "low",
    "double",
    "Lower end of the 95 % interval: bootstrap over users, of coverage and gini a jackknife",
)
HIGH = Column("high", "double", "Upper end of the 95 % interval")
SLICE = _required(
    "slice",
    "string",
    "What tells users apart (history_length, segment) or targets (popularity_decile, price_fifth, vocabulary)",
)
PART = _required(
    "part",
    "string",
    "Events of the history; the segment; 1 for the tenth of the catalogue that most people bought, or its cheapest "
    "fifth; known or cold, which is a target outside the vocabulary",
)
NUM_TARGETS = _required("num_targets", "bigint", "What these users went on to have in this part")
ENOUGH = _required("enough", "boolean", "False: fewer than evaluation.slice_users, so no figures")
RULE = _required("rule", "string", "Name of the rule of the gate")

# Rules of the lists
STAGE = _required(
    "stage", "int", "1: taken out before anything is ranked; 3: left out as a list fills"
)
DEFINITION = _required("definition", "string", "The rule as conf says it, JSON")
THRESHOLD = Column("threshold", "double", "The number in the rule: price, days, items of a group")
RULE_ITEM_IDS = _required(
    "item_ids", "array<string>", "Items it takes from every user of the segment, ascending"
)
NUM_ITEMS = _required("num_items", "bigint", "Items in item_ids")
NUM_ITEMS_ALONE = _required(
    "num_items_alone", "bigint", "Of these, items that no other rule takes from the segment"
)
NUM_RULED_USERS = Column(
    "num_users", "bigint", "Users it took something from, where it looks at the user or the list"
)
NUM_PLACES = Column(
    "num_places", "bigint", "What it took from them: pairs of a user and an item that was allowed"
)

# Releases
RELEASE_ID = _required(
    "release_id", "string", "run date and the first characters of the content hash"
)
ACTION = _required(
    "action",
    "string",
    "published, held (built, not live), pinned, unpinned, rolled_back or taken_over",
)
AT = Column("at", "timestamp", "Wall clock, UTC", required=True, volatile=True)
MODEL_AGE_DAYS = Column("model_age_days", "int", "Days between the model's as_of and the run date")
MANIFEST = _required("manifest", "string", "The release manifest, JSON")

# What is checked and tidied up afterwards
ONE_COPY = _required("one_copy", "string", "The copy that was looked at")
OTHER_COPY = _required("other_copy", "string", "What it was compared with")
CHECKED = _required("checked", "bigint", "Lists, rows, files or tables that were compared")
DIFFERING = _required("differing", "bigint", "Of these, those that differ or are in one copy alone")
EXAMPLES = _required("examples", "array<string>", "The first that differ, by name, and how")
STORE = _required("store", "string", "A table, or a folder of paths.root such as models")
BYTES_BEFORE = _required("bytes_before", "bigint", "What the store took up before")
BYTES_AFTER = _required("bytes_after", "bigint", "What it took up afterwards")
REMOVED = _required("removed", "array<string>", "What went: days, folders, files; the first 100")
