"""Charts of an evaluation, as SVG: they need no script and no network to be seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import vl_convert

from recsys.config.sections import GATE_K
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.report import TITLES, Row, part_order

DARK, PALE, GREY = "#2a6f97", "#a9c6d9", "#8a8a8a"
WIDTH = 420


def ndcg_chart(rows: Iterable[Row]) -> str:
    """NDCG@10 of everybody with intervals, both kinds of targets, on the measuring window."""
    values = [
        {
            "recommender": row["recommender"], "targets": TITLES[row["targets"]],
            "ndcg": row["value"], "low": row["low"], "high": row["high"],
        }
        for row in rows
        if (row["window"], row["metric"], row["k"]) == ("measuring", "ndcg", GATE_K)
    ]  # fmt: skip
    who = alt.Y("recommender:N", sort="-x", title=None)
    base = alt.Chart({"values": values}).encode(y=who)
    its_own = alt.condition(alt.datum.recommender == BLEND, alt.value(DARK), alt.value(PALE))
    bars = base.mark_bar().encode(x=alt.X("ndcg:Q", title=f"NDCG@{GATE_K}"), color=its_own)
    intervals = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    chart = alt.layer(bars, intervals).properties(width=WIDTH, height=alt.Step(22))
    return _svg(_faceted(chart, "targets", list(TITLES.values())))


def gain_chart(slice_rows: Iterable[Row], other: str) -> str:
    """What the blend gains in NDCG@10 over ``other`` for each part with enough users."""
    gains = [row for row in slice_rows if row["metric"] == f"ndcg_above_{other}" and row["enough"]]
    ordered = sorted(gains, key=lambda row: part_order(row["part"]))
    values = [
        {name: row[name] for name in ("slice", "part", "value", "low", "high")} for row in ordered
    ]
    order = list(dict.fromkeys(value["part"] for value in values))
    base = alt.Chart({"values": values}).encode(y=alt.Y("part:N", sort=order, title=None))
    zero = base.mark_rule(color=GREY).encode(x=alt.datum(0))
    points = base.mark_point(filled=True, size=50, color=DARK).encode(
        x=alt.X("value:Q", title=f"NDCG@{GATE_K} above {other}")
    )
    intervals = base.mark_rule(color=DARK).encode(x="low:Q", x2="high:Q")
    chart = alt.layer(zero, intervals, points).properties(width=WIDTH, height=alt.Step(20))
    return _svg(_faceted(chart, "slice", list(dict.fromkeys(v["slice"] for v in values))))


def learning_chart(curve: Sequence[float], chosen: int, title: str) -> str:
    """A figure by epoch, from 1; the epoch that was chosen is marked."""
    values = [{"epoch": epoch, "value": value} for epoch, value in enumerate(curve, start=1)]
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"))
    base = alt.Chart({"values": values}).encode(
        x=x, y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    )
    mark = base.transform_filter(alt.datum.epoch == chosen)
    chart = alt.layer(
        base.mark_line(color=PALE), base.mark_point(filled=True, color=PALE),
        mark.mark_point(filled=True, size=90, color=DARK),
    )  # fmt: skip
    return _svg(chart.properties(width=WIDTH, height=160))


def _faceted(chart: Any, by: str, order: list[str]) -> Any:
    return chart.facet(row=alt.Row(f"{by}:N", title=None, sort=order)).resolve_scale(
        x="independent", y="independent"
    )


def _svg(chart: Any) -> str:
    spec: dict[str, Any] = chart.to_dict()
    return str(vl_convert.vegalite_to_svg(spec))
