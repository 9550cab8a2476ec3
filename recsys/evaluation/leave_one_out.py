"""The field's benchmark: every user's newest item is predicted from all before it, among the whole catalogue.

What a recommender chooses (weights of the blend, epochs of a network) it chooses on the last-but-one items, fitted
without them; then it is fitted again with them. What the user had is left out of every list.

Shape suffixes: B users of a block, N catalogue (num_items + 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy.sparse import csr_array

from recsys.config import RecsysConfig
from recsys.errors import MissingInput, Refused
from recsys.evaluation.costs import Costs, PeakMemory
from recsys.evaluation.finished_rows import FinishedRows
from recsys.evaluation.history_file import HistoryFile, read_attributes, read_histories, short_hash
from recsys.evaluation.leave_one_out_table import KS, Row, summary, table
from recsys.evaluation.ranking import METRICS, metrics_by_user
from recsys.evaluation.splits import leave_one_out
from recsys.recommenders import Recommender, Shop, Users
from recsys.recommenders.blend import Blend, choose
from recsys.recommenders.interface import Chooses
from recsys.recommenders.named import SHIPPED, checked_names, recommender
from recsys.recommenders.shop import ItemNums, Scores, blocks, in_blocks, seen_mask
from recsys.records import write_atomically

log = structlog.get_logger()

SEEDS = 3
"""By default."""
NO_RANK = np.iinfo(np.int64).max
"""Of a target that no list can hold: the user had it before."""


@dataclass(frozen=True)
class Asked:
    """What a person asked for."""

    data: Path
    attributes: Path | None
    num_seeds: int
    only: tuple[str, ...] = ()
    """Names of recommenders; empty: all that are shipped for such a file."""

    def names(self) -> tuple[str, ...]:
        """Raises ConfigError: nobody is called so."""
        return checked_names(self.only) if self.only else tuple(SHIPPED)

    @property
    def files(self) -> list[Path]:
        return [self.data, *([self.attributes] if self.attributes else [])]

    @property
    def report(self) -> str:
        """The table's file: some recommenders or another number of seeds do not overwrite the table of all, nor does
        a file of the same name in another folder."""
        words = [
            self.data.name, short_hash(*self.files), *(["with attributes"] if self.attributes else []),
            *([f"{self.num_seeds} seeds"] if self.num_seeds != SEEDS else []), *self.only,
        ]  # fmt: skip
        return "-".join(re.sub(r"[^\w.]+", "_", word) for word in words) + ".md"


def read(asked: Asked) -> tuple[HistoryFile, csr_array | None]:
    """The histories, and what items are where a file says it.

    Raises:
        RecsysError: a file is not there, or not what it should be.
    """
    file = read_histories(asked.data)
    return file, read_attributes(asked.attributes, file.item_ids) if asked.attributes else None


def planned(asked: Asked) -> list[str]:
    """What a dry run says; raises what the run would of names and files."""
    names, (file, _) = ", ".join(asked.names()), read(asked)
    users = f"{len(file.histories)}, items {file.num_items}"
    return [f"models  {names}", f"users   {users}", f"report  {asked.report}"]


def benchmark(
    asked: Asked, names: Sequence[str], config: RecsysConfig, spark: SparkSession, *, peak_memory: PeakMemory
) -> list[Row]:  # fmt: skip
    """All seeds, one after the other; the table so far is printed and written after each.

    What a run that was killed had measured of the same files with the same settings and code is not measured again.

    Raises:
        RecsysError: a file is not what it should be, or a recommender lacks something.
    """
    file, attributes = read(asked)
    log.info(
        "file_read", file=str(asked.data), users=len(file.histories), items=file.num_items,
        events=len(file.histories.item_nums), attributes=0 if attributes is None else attributes.shape[1],
    )  # fmt: skip
    work = config.paths.work / "leave_one_out" / f"{asked.data.stem}-{short_hash(asked.data)}"
    report = config.paths.reports / "leave_one_out" / asked.report
    shop = Shop(
        file.num_items, file.histories, attributes=attributes, work=work, spark=spark,
        training=config.training,
    )  # fmt: skip
    finished = FinishedRows.of(work / "finished.json", asked.files, config)
    rows: list[Row] = []
    for seed in range(1, asked.num_seeds + 1):
        # Of one that lacked something it is said again why, where it was asked for by name.
        done = {name: row for name, row in finished.of_seed(seed).items() if row or not asked.only}
        if before := [name for name in names if name in done]:
            log.info("measured_before", seed=seed, recommenders=before)
        if wanted := [name for name in names if name not in done]:
            found = one_seed(
                replace(shop, seed=seed, work=work / f"seed-{seed}"), wanted, peak_memory=peak_memory,
                all_must=bool(asked.only),
            )  # fmt: skip
            done |= dict.fromkeys(wanted) | {row.recommender: asdict(row) for row in found}
            finished.keep(seed, done)
        rows += [Row.from_json(row) for row in map(done.get, names) if row]
        text = table(rows, file=asked.data.name, of_seeds=asked.num_seeds)
        print(text)  # noqa: T201
        write_atomically(report, text.encode())
    finished.done()
    return rows


def one_seed(
    shop: Shop, names: Sequence[str], *, peak_memory: PeakMemory, all_must: bool = False
) -> list[Row]:
    """The recommenders of ``names``, the blend of its parts among them if it is named.

    ``shop`` has all events; the newest of each user is used to measure alone. One that lacks something (attributes,
    days) has no row, and the log says why; with ``all_must`` it is refused. The blend then does without it.

    Raises:
        MissingInput: with ``all_must``, or where nobody is left.
        Refused: a recommender's scores are not finite.
    """
    wants_blend = Blend.name in names
    blend = Blend() if wants_blend else Blend({})
    parts = {name: recommender(name) for name in names if name not in (Blend.name, *blend.parts)}
    parts = blend.parts | parts
    costs = Costs(peak_memory)
    newest, before = leave_one_out(shop.histories), leave_one_out(shop.histories, newer=1)
    known, earlier = (replace(shop, histories=split.known) for split in (newest, before))
    users, chosen_on = earlier.everyone(), before.later.newest()

    def each(
        what: str, work: Callable[[Recommender], object], of: Collection[str], must: Collection[str]
    ) -> None:
        for name in of:
            try:
                with costs.measured(name, what):
                    work(parts[name])
            except MissingInput as error:
                if name in must:
                    raise
                _leave_out(name, error, parts, blend)

    choosing = [name for name in parts if name in blend.parts or isinstance(parts[name], Chooses)]
    each(
        "chosen", lambda part: choose(part, earlier, users, chosen_on), choosing,
        must=names if all_must else (),
    )  # fmt: skip
    if wants_blend:
        with costs.measured(Blend.name, "chosen"):
            blend.learn(users, before.later)
    each("fitted", lambda part: part.fit(known), list(parts), parts if all_must else blend.parts)
    measured = [name for name in names if name in (*parts, Blend.name)]
    ranks = _ranks(known, newest.later.newest(), measured, parts, blend=blend, costs=costs)
    return [_row(name, shop.seed, ranks[name], blend, costs) for name in measured]


def _ranks(
    known: Shop, targets: ItemNums, names: Sequence[str], parts: Mapping[str, Recommender], *, blend: Blend,
    costs: Costs,
) -> dict[str, NDArray[np.int64]]:  # fmt: skip
    """Of the target of every user, by recommender."""
    ranks: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}

    def ask(block: Users, wanted: ItemNums, peak: list[float]) -> None:
        seen_BN = seen_mask(block, known.width)
        scores: dict[str, Scores] = {}
        for name, part in parts.items():
            with costs.asked(name, peak):
                scores[name] = finite(name, part.scores(block), block)
        if Blend.name in names:
            with costs.asked(Blend.name, peak):
                scores[Blend.name] = finite(Blend.name, blend.summed(block, scores), block)
        for name in names:
            ranks[name].append(ranks_of(scores[name], seen_BN, wanted))

    with costs.peak_memory() as peak:
        for block, wanted in zip(blocks(known.everyone()), in_blocks(targets), strict=True):
            ask(block, wanted, peak)
    return {name: np.concatenate(of_blocks) for name, of_blocks in ranks.items()}


def _row(name: str, seed: int, ranks: NDArray[np.int64], blend: Blend, costs: Costs) -> Row:
    recall, ndcg = figures_of(ranks)
    counted = (*blend.parts, name) if name == Blend.name else (name,)
    seconds = sum(costs.of[one].seconds for one in counted)
    peak = max(costs.of[one].peak_bytes for one in counted)
    return Row(name, seed, len(ranks), recall, ndcg, round(seconds, 1), round(peak / 1e6))


def _leave_out(name: str, error: MissingInput, parts: dict[str, Recommender], blend: Blend) -> None:
    log.warning("not_measured", recommender=name, reason=str(error))
    del parts[name]
    blend.parts.pop(name, None)
    if not parts:
        raise error


def finite(name: str, scores_BN: Scores, users: Users) -> Scores:
    """Raises Refused: a score is NaN or infinite, which no list can order."""
    good_B = np.isfinite(scores_BN).all(axis=1)
    if not good_B.all():
        user = int(users.user_nums[int(np.argmin(good_B))])
        raise Refused(
            f"{name} gave a score that is not finite to {int((~good_B).sum())} users, the first of them the "
            f"{user}th of the file: mend it; nothing was measured"
        )
    return scores_BN


def ranks_of(scores_BN: Scores, seen_BN: NDArray[np.bool_], targets: ItemNums) -> NDArray[np.int64]:
    """(B,), from 1, of each target among all items that its user had not; ties go to the smaller number.

    Raises:
        Refused: a score is NaN: nothing is greater than it, so its item would be first.
    """
    if np.isnan(scores_BN).any():
        raise Refused(
            "there are scores that are no number, which no list can order; nothing was measured"
        )
    rows = np.arange(len(targets))
    shown_BN = np.where(seen_BN, -np.inf, scores_BN)
    own_B1 = shown_BN[rows, targets][:, None]
    smaller_BN = np.arange(scores_BN.shape[1])[None, :] < targets[:, None]
    above_BN = (shown_BN > own_B1) | ((shown_BN == own_B1) & smaller_BN)
    return np.where(seen_BN[rows, targets], NO_RANK, 1 + above_BN.sum(axis=1))


def figures_of(ranks_B: NDArray[np.int64]) -> tuple[dict[int, float], dict[int, float]]:
    """Recall and NDCG by k, of one target each."""
    hits_BK = ranks_B[:, None] == np.arange(1, max(KS) + 1)
    by_user = metrics_by_user(hits_BK, np.ones(len(ranks_B), dtype=np.int64), KS)

    def mean(metric: str) -> dict[int, float]:
        values_BK = by_user[:, METRICS.index(metric)]
        return {k: float(values_BK[:, place].mean()) for place, k in enumerate(KS)}

    return mean("recall"), mean("ndcg")


def result(rows: Sequence[Row], asked: Asked) -> dict[str, object]:
    """What the last line says: the blend's figures, or those of the last recommender where it was not asked for."""
    found = summary(rows)
    name = Blend.name if Blend.name in found else list(found)[-1]
    rounded = {key: round(value, 6) for key, value in found[name].items()}
    return {
        "benchmark": "leave_one_out", "file": asked.data.name, "recommender": name,
        "seeds": asked.num_seeds, "users": rows[0].num_users, "attributes": asked.attributes is not None,
    } | rounded  # fmt: skip
