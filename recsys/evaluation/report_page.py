"""``evaluation_report.html``: a night's evaluation as one page that needs nothing else, neither script nor network."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from string import Template

from recsys.config.sections import GATE_K
from recsys.evaluation.charts import gain_chart, learning_chart, ndcg_chart
from recsys.evaluation.examples import Example
from recsys.evaluation.night_report import LISTS, RANKING, NightReport
from recsys.evaluation.recommenders import BLEND
from recsys.evaluation.report import PROBABILITIES, TITLES, cell, recipe_in_words
from recsys.evaluation.rows import Row
from recsys.evaluation.slices import SLICED

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee; vertical-align: top; }
th:first-child, td:first-child, .words { text-align: left; } .wide { overflow-x: auto; }
.decision { padding: .6rem 1rem; border-left: 5px solid #2a6f97; background: #eef4f8; }
.refused { border-color: #b3402a; background: #faeeeb; }
.examples { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; font-size: 13px; }
.examples section { border: 1px solid #ddd; padding: .2rem .8rem; } .hit { font-weight: 600; color: #2a6f97; }
.examples h3 { margin: .4rem 0; font-size: 14px; } .quiet { color: #666; } ol, ul { padding-left: 1.3rem; }
img { max-width: 100%; }
</style>
</head>
<body>
$body
</body>
</html>
""")


def page(report: NightReport) -> str:
    """The page as text; what comes from the shop's data is escaped."""
    title = f"Evaluation of {report.shop}, {report.run_date}"
    sections = (
        f"<h1>{escape(title)}</h1>",
        *_decision(report), *_figures(report), *_lists(report), *_slices(report), *_learning(report),
        *_examples(report),
    )  # fmt: skip
    return PAGE.substitute(title=escape(title), body="\n".join(sections))


def _decision(report: NightReport) -> Iterator[str]:
    record = report.record
    kind = "decision" if record.passed else "decision refused"
    yield f'<p class="{kind}" id="decision">{escape(record.reason)}.</p>'
    yield (
        f"<p>Measured on what {_users(report):,} users went on to have from {report.as_of} to {report.last_day}, the "
        f"whole catalogue ranked; everything was fitted on the days before, also "
        f"the model: the one that may be released is the same recipe fitted on all days. Brackets are 95 % intervals. "
        f"Live: {escape(report.live_release or 'nothing yet')}.</p>"
    )
    if record.recipe is not None:
        blend, model = recipe_in_words(record.recipe), record.model_version
        yield f"<p>The blend: {escape(blend)}. To be released: model {escape(model)}.</p>"
    yield "<h2>The gate</h2>"
    rules = [
        (one.rule, one.verdict, _number(one.value), one.wanted, one.reason)
        for one in report.verdicts
    ]
    yield _table(("rule", "verdict", "found", "wanted", "reason"), rules, words=4)


def _figures(report: NightReport) -> Iterator[str]:
    yield f"<h2>How often lists are right, first {GATE_K} places</h2>"
    yield _image(ndcg_chart(report.rows), f"NDCG@{GATE_K} of every recommender with intervals")
    for targets, title in TITLES.items():
        if found := report.figures(targets):
            yield f"<h3>{title.capitalize()}</h3>"
            yield _by_recommender(found, RANKING)
    yield '<p class="quiet">Each interval is for itself: of twenty, one may lie beside the truth by chance.</p>'
    shown: dict[str, dict[str, Row]] = {}
    for row in report.rows:
        if row["metric"] in PROBABILITIES:
            shown.setdefault(row["recommender"], {})[row["metric"]] = row
    if shown:
        yield "<h3>Probability that an item shown is taken</h3>"
        yield _by_recommender(shown, PROBABILITIES)


def _lists(report: NightReport) -> Iterator[str]:
    found = report.figures()
    told = {
        metric: name for metric, name in LISTS.items() if any(metric in rows for rows in found.values())
    }  # fmt: skip
    yield f"<h2>What lists are like, first {GATE_K} places</h2>"
    yield _by_recommender(found, told)
    yield (
        '<p class="quiet">Gini: 0 where all items are shown alike, 1 where one has every place. Popularity lift: 0 '
        "where lists are as popular as what the same users had. Novelty: bits of surprise of an item shown.</p>"
    )


def _slices(report: NightReport) -> Iterator[str]:
    yield "<h2>For whom, and for which targets</h2>"
    if any(row["enough"] for row in report.slice_rows):
        yield _image(
            gain_chart(report.slice_rows, report.other), f"The blend against {report.other} by part"
        )
    names = list(dict.fromkeys(row["recommender"] for row in report.slice_rows))
    columns = [
        *((name, metric) for metric in SLICED for name in names),
        *((BLEND, f"{metric}_above_{report.other}") for metric in SLICED),
    ]
    rows = []
    for slice_, part, found in report.parts():
        one = next(iter(found.values()))
        told = ["too few users", *[""] * (len(columns) - 1)]
        if one["enough"]:
            told = [cell(found.get(column), sign="above" in column[1]) for column in columns]
        rows.append((f"{slice_} {part}", f"{one['num_users']:,}", f"{one['num_targets']:,}", *told))
    heads = [f"{metric} {name}".replace("_above_", " above ") for name, metric in columns]
    yield _table(("part", "users", "targets", *heads), rows)
    yield (
        f'<p class="quiet">A part with fewer than {report.slice_users} users is not measured. Cold targets were '
        "unknown at the cut-off: nobody can find them, and they count. Each interval is for itself, and there are "
        "many: the gate judges parts by wider ones, which hold for all of them together.</p>"
    )


def _learning(report: NightReport) -> Iterator[str]:
    training = report.training
    curves = (
        (training.validation_ndcg_at_10, training.epochs, "sequential model: NDCG@10"),
        (training.ranking_validation_auc, training.ranking_epochs, "ranking model: AUC"),
    )
    if any(curve for curve, _, _ in curves):
        yield "<h2>Learning, on the choosing window</h2>"
    for curve, chosen, title in curves:
        if curve:
            yield _image(learning_chart(curve, chosen, title), f"{title} by epoch")


def _examples(report: NightReport) -> Iterator[str]:
    if report.examples:
        yield "<h2>Lists to look at: the best and the worst by NDCG@10</h2>"
        yield '<div class="examples">'
        yield from (_example(number, one) for number, one in enumerate(report.examples, start=1))
        yield "</div>"
        yield (
            '<p class="quiet">Users are numbered for this page alone. What was taken is marked.</p>'
        )


def _example(number: int, one: Example) -> str:
    offered = "".join(
        f'<li class="hit">{escape(title)}</li>' if taken else f"<li>{escape(title)}</li>"
        for title, taken in one.offered
    )
    cold = f", and {one.num_cold} new to the shop" if one.num_cold else ""
    return (
        f"<section><h3>User {number}: {one.ndcg:.3f}</h3>"
        f'<p class="quiet">Had lately: {escape(", ".join(one.had))}</p>'
        f"<ol>{offered}</ol>"
        f'<p class="quiet">Took: {escape(", ".join(one.taken))}{cold}</p></section>'
    )


def _by_recommender(found: dict[str, dict[str, Row]], metrics: dict[str, str]) -> str:
    rows = [
        (name, *(cell(figures.get(metric)) for metric in metrics))
        for name, figures in found.items()
    ]
    return _table(("recommender", *metrics.values()), rows)


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else ""


def _users(report: NightReport) -> int:
    found = report.figures().get(BLEND, {})
    return int(found["ndcg"]["num_users"]) if found else 0


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int | None = None) -> str:
    """``words`` is the column of sentences, which read from the left."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="words"' if place == words else "" for place in range(len(cells))]
        told = (
            f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, cells, strict=True)
        )
        return f"<tr>{''.join(told)}</tr>"

    head, body = line(heads, "th"), "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _image(svg: str, says: str) -> str:
    """Each picture is a document of its own: names inside one do not meet those of another."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<p><img alt="{escape(says)}" src="data:image/svg+xml;base64,{data}"></p>'
