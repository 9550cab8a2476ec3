"""What a night's evaluation found, as its page and its model card tell it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from recsys.config.sections import GATE_K
from recsys.evaluation.examples import Example
from recsys.evaluation.gate import Verdict
from recsys.evaluation.report import part_order
from recsys.evaluation.rows import Row
from recsys.records import EvaluationRecord, TrainingRecord

RANKING = {
    "ndcg": "NDCG", "recall": "recall", "precision": "precision", "f1": "F1", "hit_rate": "hit rate",
    "map": "MAP", "mrr": "MRR",
}  # fmt: skip
LISTS = {
    "coverage": "coverage", "gini": "Gini", "category_diversity": "diversity of categories",
    "vector_diversity": "diversity of vectors", "novelty": "novelty, bits",
    "popularity_lift": "popularity lift", "repeat_share": "repeat share",
}  # fmt: skip


@dataclass(frozen=True)
class NightReport:
    """Everything that is told; nothing is computed from here on."""

    shop: str
    window_days: int
    as_of: date
    """The measuring cut-off."""
    live_release: str
    """'' where none is live."""
    other: str
    """Whom the blend is compared with by parts: the live recipe, or the best baseline."""
    slice_users: int
    record: EvaluationRecord
    training: TrainingRecord
    verdicts: tuple[Verdict, ...]
    rows: tuple[Row, ...]
    """Of the table metrics."""
    slice_rows: tuple[Row, ...]
    """Of the table metric_slices."""
    examples: tuple[Example, ...] = ()

    @property
    def run_date(self) -> date:
        return self.record.run_date

    @property
    def last_day(self) -> date:
        return self.as_of + timedelta(days=self.window_days - 1)

    def figures(self, targets: str = "all") -> dict[str, dict[str, Row]]:
        """Recommender -> metric -> row, at 10 on the measuring window; best NDCG first."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            if (row["window"], row["targets"], row["k"]) == ("measuring", targets, GATE_K):
                found.setdefault(row["recommender"], {})[row["metric"]] = row
        return dict(sorted(found.items(), key=lambda one: -(one[1]["ndcg"]["value"] or 0)))

    def parts(self) -> Iterator[tuple[str, str, dict[tuple[str, str], Row]]]:
        """(slice, part, (recommender, metric) -> row), slices as they come, parts in their order."""
        found: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
        for row in self.slice_rows:
            by_name = found.setdefault((row["slice"], row["part"]), {})
            by_name[row["recommender"], row["metric"]] = row
        slices = list(dict.fromkeys(name for name, _ in found))
        for name, part in sorted(found, key=lambda one: (slices.index(one[0]), part_order(one[1]))):
            yield name, part, found[name, part]
