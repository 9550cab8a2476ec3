"""``model_card.md``: what the model that may be released is, on what it was measured, and how it did.

In the order of Mitchell and others, Model Cards for Model Reporting (FAT* 2019): what it is, what for, on what it was
measured, figures, figures by group, and what to beware of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from recsys.config.sections import GATE_K
from recsys.evaluation.night_report import LISTS, RANKING, NightReport
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.report import cell, recipe_in_words
from recsys.evaluation.rows import Row
from recsys.evaluation.slices import COLD


def model_card(report: NightReport) -> str:
    """Markdown."""
    return "\n".join([*_what(report), *_figures(report), *_parts(report), *_beware(report)]) + "\n"


def _what(report: NightReport) -> Iterator[str]:
    record, training = report.record, report.training
    yield f"# Model {record.model_version} of {report.shop}\n"
    yield (
        f"Fitted on what happened before {report.run_date}, to order a customer's list of items from the shop's "
        "catalogue. It says nothing of anything else, and of people no more than what they bought or looked at.\n"
    )
    if record.recipe is not None:
        yield f"- The lists: {recipe_in_words(record.recipe)}."
    yield f"- Epochs: {training.epochs}, chosen on the window before the one it was measured on."
    if record.ranking_version:
        yield f"- Stage 2: ranking model {record.ranking_version}."
    yield f"- The gate: {record.reason}.\n"


def _figures(report: NightReport) -> Iterator[str]:
    figures = report.figures()
    users = figures[BLEND]["ndcg"]["num_users"] if BLEND in figures else 0
    yield "## Figures\n"
    yield (
        f"The same recipe, fitted on what happened before {report.as_of}, on what {users:,} users went on to have "
        f"until {report.last_day}: the whole catalogue ranked, first {GATE_K} places, 95 % intervals in brackets, each "
        "for itself.\n"
    )
    yield from _table("recommender", RANKING, figures)
    listed = {metric: name for metric, name in LISTS.items() if metric in figures.get(BLEND, {})}
    yield from _table("recommender", listed, figures)


def _parts(report: NightReport) -> Iterator[str]:
    yield f"## The blend by parts of users and targets, NDCG@{GATE_K}\n"
    gain = f"ndcg_above_{report.other}"
    heads = {"ndcg": "NDCG", gain: f"above {report.other}"}
    found = {
        f"{name} {part}, {next(iter(rows.values()))['num_users']:,} users": {
            metric: rows[BLEND, metric] for metric in heads
        }
        for name, part, rows in report.parts()
        if all(row["enough"] for row in rows.values())
    }
    yield from _table("part", heads, found)


def _beware(report: NightReport) -> Iterator[str]:
    parts = list(report.parts())
    few = [
        f"{name} {part}" for name, part, rows in parts if not next(iter(rows.values()))["enough"]
    ]
    cold = [rows for name, part, rows in parts if (name, part) == COLD]
    yield "## Beware\n"
    yield "- What people bought was in part what they were shown: figures favour what was on show."
    if cold:
        targets = next(iter(cold[0].values()))["num_targets"]
        yield f"- {targets:,} of the targets were new to the shop: nothing finds them, and they count."
    if few:
        yield f"- Fewer than {report.slice_users} users, so not measured: {', '.join(few)}."


def _table(first: str, heads: dict[str, str], rows: dict[str, dict[str, Row]]) -> Iterator[str]:
    yield _line([first, *heads.values()])
    yield _line(["-"] * (1 + len(heads)))
    for name, figures in rows.items():
        told = (cell(figures.get(metric), sign="above" in metric) for metric in heads)
        yield _line([name, *told])
    yield ""


def _line(cells: Iterable[str] | Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"
