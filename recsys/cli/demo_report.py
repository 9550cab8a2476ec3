"""What a night made, for people: what came in, how good it is, what customers are offered, what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from urllib.parse import quote

import typer

from recsys.cli.shared import EnvOption, SetOption, exiting
from recsys.config import RecsysConfig, load_config
from recsys.errors import FIRST_NIGHT, MissingInput

CUSTOMERS = 3
SHOWN = 5
WIDTH = 44
"""Characters of a title."""

HOW_TO_READ = """
`blend` is what is published; `blend_without_…` is it without that part (without item_item: without transitions, too).
First purchases are of items new to the customer: a list for all purchases says little of them where people return."""

Ask = Callable[..., list[Sequence[Any]]]
"""A query and the values of its ``$names``; gives the rows."""


def demo_report_command(env: EnvOption = "local", set_: SetOption = []) -> None:  # noqa: B006
    """Print the live release: reconciliation, metrics, three customers, similar items, time per step."""
    with exiting():
        typer.echo(demo_report(load_config(env, set_)))


def demo_report(config: RecsysConfig) -> str:
    """The report of the live release as text.

    Raises:
        MissingInput: nothing was published yet.
    """
    from recsys.release.pointer import live_release
    from recsys.sql.duck import open_lake

    release = live_release(config.paths)
    if release is None:
        raise MissingInput(f"nothing is published in {config.paths.releases}: {FIRST_NIGHT}")
    with open_lake(config.paths) as lake:

        def ask(sql: str, **values: object) -> list[Sequence[Any]]:
            return list(lake.query(sql, values)[1])

        day = release.run_date
        sections = [
            ("What came in", _reconciliation(ask, day)),
            ("How good it is", _metrics(lake, config, day)),
            ("What customers are offered", _customers(ask, day)),
            ("Similar items", _similar(ask, day)),
            ("What it took", _steps(config, day)),
            ("Next", _next_commands(ask, config, day)),
        ]
    head = f"{release.shop}, release {release.release_id}: model of {release.model.as_of} ({release.model.reason})"
    body = "\n\n".join(f"{title}\n{'-' * len(title)}\n{text}" for title, text in sections if text)
    return f"\n{head}\n\n{body}\n"


def _reconciliation(ask: Ask, day: date) -> str:
    """Raw rows against what became of them; the sum is spelt out so that it can be checked by eye."""
    rows = ask(
        "select subject, sum(value)::bigint from data_quality "
        "where job = 'ingest' and \"check\" = 'rows' and run_date = $day group by all",
        day=day,
    )
    counts: dict[str, int] = {subject: rows_of_it for subject, rows_of_it in rows}
    reasons = ask(
        "select subject, sum(value)::bigint as rows from data_quality "
        "where job = 'ingest' and \"check\" = 'reason' and run_date = $day group by all order by rows desc, subject",
        day=day,
    )
    if not counts:
        return ""
    raw, accepted = counts["raw"], counts["accepted"]
    quarantined, duplicates = counts["quarantined"], counts["duplicates"]
    lines = [
        f"{raw:,} raw rows = {accepted:,} accepted + {quarantined:,} quarantined + {duplicates:,} duplicates"
    ]
    lines += [f"  {rows:>9,}  {reason}" for reason, rows in reasons]
    return "\n".join(lines)


def _metrics(lake: Any, config: RecsysConfig, day: date) -> str:
    from recsys.evaluation.report import metrics_table
    from recsys.records import EvaluationRecord

    names, rows = lake.query("select * from metrics where run_date = $day", {"day": day})
    evaluated = EvaluationRecord.read_if_there(config.paths, day)
    found = [dict(zip(names, row, strict=True)) for row in rows]
    if not found:
        return evaluated.reason if evaluated else ""
    tables = metrics_table(found, evaluated.recipe if evaluated else None).splitlines()
    return "\n".join([*(line.rstrip() for line in tables), HOW_TO_READ])


def _customers(ask: Ask, day: date) -> str:
    """Customers with some history, the newest buyers first: enough to judge the list by."""
    users = ask(
        "select user_id from histories where as_of = $day and len(item_ids) between 20 and 80 "
        f"and not is_capped order by ages_days[-1], user_id limit {CUSTOMERS}",
        day=day,
    )
    return "\n\n".join(_customer(ask, day, user) for (user,) in users)


def _customer(ask: Ask, day: date, user: str) -> str:
    bought = ask(
        "with last as (select item_id, max(event_ts) as bought from events "
        "where user_id = $user and event_type = 'purchase' and event_date < $day group by item_id "
        f"order by bought desc, item_id limit {SHOWN}) "
        "select strftime(bought, '%Y-%m-%d'), item_id, (select max_by(title, valid_from) from items i "
        "where i.item_id = last.item_id) from last order by bought desc, item_id",
        user=user,
        day=day,
    )
    offered = ask(
        "select rank, item_id, title, source from top_n where user_id = $user and as_of = $day "
        f"and rank <= {SHOWN} order by rank",
        user=user,
        day=day,
    )
    lines = [f"customer {user}", f"  {'last bought':<{WIDTH + 13}}is offered"]
    for n in range(SHOWN):
        left = f"{bought[n][0]} {_title(bought[n][2], bought[n][1])}" if n < len(bought) else ""
        right = (
            f"{_title(offered[n][2], offered[n][1])} ({offered[n][3]})" if n < len(offered) else ""
        )
        lines.append(f"  {left:<{WIDTH + 13}}{right}".rstrip())
    return "\n".join(lines)


def _similar(ask: Ask, day: date) -> str:
    """The neighbours of the item that most people bought."""
    rows = ask(
        "with best as (select item_id from popular_items "
        "where as_of = $day and segment = '' order by rank limit 1) "
        "select (select max_by(title, valid_from) from items where item_id = s.item_id), s.item_id, "
        "(select max_by(title, valid_from) from items where item_id = s.similar_item_id), s.similar_item_id, s.score "
        f"from similar_items s join best using (item_id) where as_of = $day and rank <= {SHOWN} order by rank",
        day=day,
    )
    if not rows:
        return ""
    lines = [f"beside {_title(rows[0][0], rows[0][1])}:"]
    return "\n".join(lines + [f"  {_title(row[2], row[3]):<{WIDTH}} {row[4]:.3f}" for row in rows])


def _steps(config: RecsysConfig, day: date) -> str:
    path = config.paths.reports / str(day) / "steps.json"
    if not path.exists():
        return ""
    steps = json.loads(path.read_bytes())
    total = sum(step["seconds"] for step in steps)
    lines = [
        f"{s['step']:<20}{s['seconds']:>8.1f} s  {s['peak_memory_mb'] / 1000:>5.1f} GB"
        for s in steps
    ]
    return "\n".join([*lines, f"{'all steps':<20}{total:>8.1f} s"])


def _next_commands(ask: Ask, config: RecsysConfig, day: date) -> str:
    """What to type next, for the shop that this report is of; an id may hold what a shell or SQL would read."""
    from recsys.evaluation.report import REPORT_FILE

    [[user]] = ask("select min(user_id) from top_n_lists where as_of = $day", day=day)
    address = f"http://{config.serving.host}:{config.serving.port}"
    literal = user.replace("'", "''")
    query = f"select * from top_n_today where user_id = '{literal}' and rank <= 5 order by rank"
    in_quotes = re.sub(r'(["$`\\])', r"\\\1", query)
    page = config.paths.reports / str(day) / REPORT_FILE
    return "\n".join(
        [
            *(
                [
                    f"{page}    # to be opened in a browser: all figures, and what the gate said of them"
                ]
                if page.exists()
                else []
            ),
            f".venv/bin/recsys serve --env {config.env}    # then: "
            f'curl -s "{address}/v1/users/{quote(user, safe="")}/recommendations?n=3"',
            f'.venv/bin/recsys sql --env {config.env} "{in_quotes}"',
            f".venv/bin/recsys release list --env {config.env}",
        ]
    )


def _title(title: str | None, item_id: str) -> str:
    return (title or item_id)[:WIDTH]
