# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First look at a night
#
# What came in, what was refused, how good the recommender is against honest baselines, and what a few customers
# are offered. Reads the Delta tables through DuckDB; needs no Spark. Run `make demo` first.

# %%
import os

import altair as alt
import pandas as pd

from recsys.config import load_config
from recsys.release.pointer import live_release
from recsys.sql.duck import open_lake

alt.renderers.enable("png")  # drawn here: a notebook that needs no network to be looked at

config = load_config(os.environ.get("NOTEBOOK_ENV", "local"))
release = live_release(config.paths)
assert release is not None, "nothing is published yet: run `make demo` first"
day = release.run_date


def ask(sql: str, **values: object) -> pd.DataFrame:
    """The result of a query as a frame; ``values`` fill ``$name`` in the text."""
    with open_lake(config.paths) as lake:
        names, rows = lake.query(sql, values)
        return pd.DataFrame([list(row) for row in rows], columns=names)


release.release_id

# %% [markdown]
# ## What came in, and what was refused
#
# Raw rows = accepted + quarantined + duplicates, exactly, for every file.

# %%
counts = ask(
    """
    select source_file, subject, value::bigint as rows from data_quality
    where job = 'ingest' and "check" = 'rows' and run_date = $day order by source_file, subject
""",
    day=day,
).pivot_table(index="source_file", columns="subject", values="rows", aggfunc="sum")
assert (counts["raw"] == counts["accepted"] + counts["quarantined"] + counts["duplicates"]).all()
counts

# %%
reasons = ask(
    """
    select subject as reason, sum(value)::bigint as rows from data_quality
    where job = 'ingest' and "check" = 'reason' and run_date = $day group by all order by rows desc
""",
    day=day,
)
alt.Chart(reasons, title="Why rows were refused").mark_bar().encode(
    x="rows:Q", y=alt.Y("reason:N", sort="-x", title=None)
)

# %%
by_week = ask("""
    select date_trunc('week', event_date)::date::varchar as week, event_type, count(*) as events
    from events group by all order by week, event_type
""")
alt.Chart(by_week, title="Events by week").mark_area().encode(
    x="week:T", y="events:Q", color="event_type:N"
).properties(width=600, height=200)

# %% [markdown]
# ## How good it is
#
# Measured on the 28 days before the run date, on lists made by the published path; everything was fitted before
# them. The line is a 95 % interval from a bootstrap over users.

# %%
metrics = ask(
    """
    select recommender, targets, value, low, high, num_users from metrics
    where run_date = $day and "window" = 'measuring' and metric = 'ndcg' and k = 10
    order by targets, value desc
""",
    day=day,
)
metrics

# %%
bars = (
    alt.Chart(metrics)
    .mark_bar()
    .encode(x=alt.X("value:Q", title="NDCG@10"), y=alt.Y("recommender:N", sort="-x", title=None))
)
lines = (
    alt.Chart(metrics)
    .mark_rule()
    .encode(x="low:Q", x2="high:Q", y=alt.Y("recommender:N", sort="-x"))
)
alt.layer(bars, lines, data=metrics).facet(row=alt.Row("targets:N", title=None)).resolve_scale(
    x="independent", y="independent"
)

# %%
ask("select rule, value, wanted, verdict, reason from gate_verdicts where run_date = $day", day=day)

# %% [markdown]
# ## A few customers
#
# What they bought last, and what they are offered, with the part of the recommender that put it there.

# %%
customers = ask(
    """
    select user_id from histories
    where as_of = $day and len(item_ids) between 20 and 80 and not is_capped
    order by ages_days[-1], user_id limit 3
""",
    day=day,
)["user_id"].tolist()
ask(
    """
    select user_id, rank, title, source, round(score, 3) as score from top_n
    where as_of = $day and list_contains($customers, user_id) and rank <= 5 order by user_id, rank
""",
    day=day,
    customers=customers,
)

# %%
ask(
    """
    select e.user_id, e.event_date, max(i.title) as title, sum(e.quantity) as units
    from events e join items i using (item_id)
    where list_contains($customers, e.user_id) and e.event_type = 'purchase' and e.event_date < $day
    group by e.user_id, e.event_date, e.item_id
    qualify row_number() over (partition by e.user_id order by e.event_date desc, e.item_id) <= 5
    order by e.user_id, e.event_date desc, title
""",
    day=day,
    customers=customers,
)

# %% [markdown]
# ## Where the offers come from

# %%
sources = ask(
    """
    select source, count(*) as places, count(distinct user_id) as customers from top_n
    where as_of = $day and rank <= 10 group by source order by places desc
""",
    day=day,
)
assert len(sources) > 0
alt.Chart(sources, title="Places 1 to 10, by source").mark_bar().encode(
    x="places:Q", y=alt.Y("source:N", sort="-x", title=None)
)
