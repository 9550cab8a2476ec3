"""One section per job or engine, named after it. Each field says what it decides."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from recsys.config.base import Config
from recsys.config.pace import Pace

Share = Annotated[float, Field(ge=0, le=1)]


class VolumeConfig(Config):
    """The day before the run date against the same weekday of the weeks before."""

    weeks: int = Field(default=8, ge=1)
    floor: Share = 0.7
    """Below floor x median the day is short."""
    ceiling: float = Field(2.0, ge=1)
    """Above ceiling x median the day is doubled."""
    min_weeks: int = Field(4, ge=1)
    """With fewer weeks since the first event the day is not judged."""
    smallest_median: int = Field(100, ge=0)
    """Segments (and the total) with a smaller median are not judged."""


class IngestConfig(Config):
    """Which sources are read, and what is refused."""

    sources: tuple[str, ...] = ("online_retail",)
    """Names of descriptions in conf/base/sources, conf/<env>/sources or conf/private/sources."""
    max_quarantined_share: Share = 0.2
    """A file with a larger share of quarantined rows is refused."""
    volume: VolumeConfig = VolumeConfig()
    accept_volume: str = ""
    """The reason for taking a refused volume anyway (--accept-volume); recorded."""


class FeaturesConfig(Config):
    max_history: int = Field(default=200, ge=1)
    """Newest events kept per user."""


class CandidatesConfig(Config):
    neighbours: int = Field(default=100, ge=1)
    """Similar items, and next items, kept per item."""
    max_user_items: int = Field(200, ge=1)
    """A user's newest events that make pairs; features.max_history bounds it from above."""
    max_user_events_90d: int = Field(3000, ge=1)
    """Users with more history events in 90 days are capped: left out of pairs and training."""
    shrinkage: float = Field(5.0, ge=0)
    """Added to the norm of the cosine: doubts rare pairs."""
    transition_shrinkage: float = Field(1.5, ge=0)
    transition_gaps: int = Field(default=5, ge=1, le=20)
    """A step counts 1/gap up to this many places on."""
    popularity_days: int = Field(90, ge=1)


class TrainingSetConfig(Config):
    max_length: int = Field(default=100, ge=2)
    """Events per example; longer histories become several windows."""
    row_group_rows: int = Field(default=512, ge=1)
    """Rows per Parquet row group, about: what the loader reads at a time. Small sets have smaller groups."""


class TrainingConfig(Pace):
    """Everything that decides the weights of one run."""

    section: ClassVar[str] = "training"

    when: Literal["auto", "always", "never"] = "auto"
    """auto: when the live model is ``every_days`` old or older."""
    every_days: int = Field(7, ge=1)
    launcher: Literal["spark", "horovodrun", "torch", "local"] = "spark"
    """spark: horovod.spark inside the job; horovodrun: processes of their own; torch: processes on this machine,
    joined by torch.distributed, where Horovod may not run; local: one process."""
    device: Literal["auto", "cpu"] = "auto"
    """auto: each process takes a GPU where its machine has one."""
    num_processes: int = Field(default=2, ge=1)
    network_interface: str = "lo"
    """The interface Horovod listens and talks on. Its servers are unauthenticated: fence it."""
    threads_per_process: int = Field(default=1, ge=1)
    embedding_dim: int = Field(64, ge=8)
    num_blocks: int = Field(1, ge=1)
    num_heads: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    max_epochs: int = Field(default=20, ge=1)
    patience: int = Field(4, ge=1)
    """Epochs without a better validation NDCG before the choosing run stops."""
    global_batch_size: int = Field(128, ge=1)
    """Examples per step, over all processes; those that predict nothing are not counted."""
    num_negatives: int = Field(2048, ge=1)
    """Items per step and process that every prediction is told from; all of a smaller catalogue."""
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(20, ge=0)
    """Steps over which the learning rate of the dense parameters rises to its value, where it stays."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Of the dense parameters; Adam on the rows of a table is indifferent to the size of a gradient."""
    quiet_days: float = Field(0.04, ge=0)
    """An event is predicted from the newest one that is at least so much older: lists are made for the
    next visit, not for the next line of an invoice. 0: from the event before it."""
    validation_users: int = Field(4000, ge=1)
    """Users whose NDCG@10 chooses the number of epochs; chosen by hash where there are more."""
    checkpoint_steps: int = Field(500, ge=0)
    """Steps between two checkpoints, beside those at the end of each epoch; 0: at the ends alone."""
    keep_checkpoints: int = Field(2, ge=2)
    """Newest checkpoints kept of each run, beside the best one."""
    restarts: int = Field(2, ge=0)
    """How often a run whose process died or stopped answering starts again, from its last checkpoint."""
    table_gib_per_process: float | None = Field(None, gt=0)
    """Memory that embedding tables and their optimizer state may take; a plan that needs more is refused
    before training. No limit by default."""
    start_timeout_seconds: int = Field(300, ge=1)
    """How long the processes may take to find each other."""
    stall_timeout_seconds: int = Field(60, ge=1)
    """A process that says nothing for longer than this ends the run, and so do all when none comes further for so
    long: more than a step takes, the reading of some thousand examples, or 8 MB of a checkpoint. One that the others
    wait for in a single exchange may take twice as long."""
    seed: int = 17

    @property
    def table_bytes_per_process(self) -> int | None:
        return (
            None if self.table_gib_per_process is None else int(self.table_gib_per_process * 2**30)
        )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.embedding_dim % (8 * self.num_heads):
            raise ValueError(
                f"embedding_dim must be a multiple of 8 x num_heads, got {self.embedding_dim} "
                f"with {self.num_heads} heads"
            )
        return self


class CutOffs(Config):
    """Three days; everything fitted for one of them uses events strictly before it."""

    choosing: date
    """Epochs and blend weights are chosen on the days from here to ``measuring``."""
    measuring: date
    """Figures are measured on the days from here to ``release``."""
    release: date
    """The run date."""

    def all(self) -> tuple[date, date, date]:
        return (self.choosing, self.measuring, self.release)


GATE_K = 10
"""The cutoff that the gate, the search for a blend and the published figure look at."""


class EvaluationConfig(Config):
    window_days: int = Field(default=28, ge=1)
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10, 20)
    """Cutoffs of the metrics, ascending; 10 is among them, because the gate and the choice of a blend read it."""
    bootstrap_rounds: int = Field(default=1000, ge=100)
    search_users: int = Field(default=1500, ge=1)
    """Users of the choosing window, by hash, on whom candidate blends are compared."""
    max_users: int = Field(100_000, ge=1, le=1_000_000)
    """Users that a night measures, chosen by hash; all where there are fewer. Figures are added up on the workers: more
    users take time, not the driver's memory. Of up to a million sums are exact, and intervals narrow enough."""
    compare_users: int = Field(100_000, ge=1)
    """The same for ``compare``, which holds what it measures in one process."""
    slice_users: int = Field(50, ge=1)
    """A part of the users, or of the targets, with fewer users is counted and not measured."""
    seed: int = 17

    @model_validator(mode="after")
    def _ks_hold_the_one_that_decides(self) -> Self:
        if list(self.ks) != sorted(set(self.ks)) or GATE_K not in self.ks:
            raise ValueError(f"ks must be ascending and contain {GATE_K}, got {list(self.ks)}")
        return self

    def cut_offs(self, run_date: date) -> CutOffs:
        window = timedelta(days=self.window_days)
        return CutOffs(
            choosing=run_date - 2 * window, measuring=run_date - window, release=run_date
        )


class ExportConfig(Config):
    parity_users: int = Field(1000, ge=1)
    max_relative_difference: float = Field(1e-4, ge=0)


class ScoringConfig(Config):
    n: int = Field(default=100, ge=1)
    """Length of the published lists."""
    batch_users: int = Field(1024, ge=1)
    partitions: int = Field(4, ge=1)
    """Spark tasks that score, and files of top_n_lists; the answers do not depend on it. On a cluster, a few for each
    core. A hundred thousand lists of 100 make a file of about 70 MB."""
    threads: int = Field(1, ge=1)
    """Of one task that scores: stage 1 works on so many. As many as spark.task.cpus; 1 where each core has a task."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where stage 1 looks through the catalogue, which must fit there. cuda: on the GPU that Spark gave the task; made
    for the same lists, and run on processors alone so far."""
    similar_n: int = Field(default=40, ge=1)
    """Length of the lists beside an item, similar and also bought: longer than a page shows, so that they fill up where
    items are blocked or excluded. Sessions look at the first 20 similar ones."""
    popular_n: int = Field(default=100, ge=1)
    segment_prior_buyers: float = Field(default=20.0, gt=0)
    """Pseudo-buyers who shop like everybody, added to each segment's popularity: small segments lean on them."""
    incremental: Literal["auto", "never"] = "auto"
    """auto: between two full runs score_changes scores those alone whose events or rules changed; never: it refuses."""
    audit_users: int = Field(default=200, ge=0)
    """About so many users' lists score_changes makes anew in full, to compare: each carried-over list is drawn by its
    user's hash, so ask for some dozens or chance may draw none. 0: none."""


class PublishConfig(Config):
    keep: int = Field(default=5, ge=2)
    """Releases whose snapshots stay on disk."""
    golden_users: int = Field(100, ge=0)
    """Users whose answers are compared between table and snapshot before the swap."""
    min_users_share: Share = 0.9
    """A release with lists for a smaller part of the users that the live one has lists for, or that were to be scored,
    does not go live. 0: no limit."""
    category_n: int = Field(100, ge=1)
    """Length of each category's popular list, which fills up a list that was asked for by category."""
    bought: int = Field(20, ge=0)
    """What each user bought last, this many, for the service's page; 0 leaves it out of the snapshot."""
    url: str = ""
    """Where releases are announced for lookup hosts to pull: ``file:``, ``s3:``, ``hdfs:``, …; empty: nowhere."""

    @field_validator("url")
    @classmethod
    def _can_be_written_to(cls, url: str) -> str:
        if url.startswith(("http:", "https:")):
            raise ValueError(
                f"cannot publish to {url}: http is for hosts that pull; name the folder or the bucket that the "
                "web server shows"
            )
        return url


class GenerateShopConfig(Config):
    """A synthetic shop with planted structure; the same values give the same files, byte for byte."""

    directory: str = "var/generated_shop"
    """Where the files go; relative to the checkout."""
    file_format: Literal["csv", "parquet"] = "csv"
    """One file a day: gzip CSV, or Parquet."""
    users: int = Field(1000, ge=1)
    items: int = Field(200, ge=1)
    events: int = Field(50_000, ge=1)
    """Sound rows: what ingest accepts. Dirty rows come on top."""
    first_day: date = date(2024, 1, 1)
    days: int = Field(120, ge=1)
    closed_weekdays: tuple[Annotated[int, Field(ge=0, le=6)], ...] = (6,)
    """0 is Monday."""
    item_groups: int = Field(20, ge=1)
    preferred_share: Share = 0.8
    """Views that go to one of the user's two preferred groups."""
    cart_share: Share = 0.3
    """Views that lead to a cart."""
    purchase_share: Share = 0.5
    """Carts that lead to a purchase."""
    repeat_share: Share = 0.15
    """Visits that begin with buying one of the user's three favourites."""
    return_share: Share = 0.03
    """Purchases that come back, one to fourteen days later."""
    out_of_stock_share: Share = 0.02
    """Items with no stock left."""
    dirty_shares: dict[
        Literal["bad_timestamp", "missing_item", "unknown_type", "negative_price", "duplicate_row"],
        Share,
    ] = {
        "bad_timestamp": 0.002,
        "missing_item": 0.002,
        "unknown_type": 0.002,
        "negative_price": 0.002,
        "duplicate_row": 0.002,
    }
    """Dirty rows of each kind, as a share of the sound ones."""
    seed: int = 17

    @model_validator(mode="after")
    def _some_day_is_open(self) -> Self:
        first, days = self.first_day.weekday(), min(self.days, 7)
        if {(first + n) % 7 for n in range(days)} <= set(self.closed_weekdays):
            raise ValueError(
                f"no open day in {self.days} days from {self.first_day} with closed_weekdays="
                f"{list(self.closed_weekdays)}: a shop that never opens has no events"
            )
        if self.item_groups > self.items:
            raise ValueError(f"item_groups={self.item_groups} is more than items={self.items}")
        return self
