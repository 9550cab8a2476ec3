"""``inputs`` of a manifest: what lists were computed from, at versions that can be read again."""

from __future__ import annotations

import structlog
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from recsys.contracts import EVENTS
from recsys.lake import Lake
from recsys.records import ScoringRecord
from recsys.release.facts import INPUTS, TABLES
from recsys.release.manifest import ReleaseInputs, TableVersion
from recsys.scoring.increment import GONE

log = structlog.get_logger()


def release_inputs(
    lake: Lake, scoring: ScoringRecord, tables: dict[str, TableVersion]
) -> ReleaseInputs:
    """What the record says, with inputs as ``tables`` names them.

    A version whose log is gone is left out: an audit cannot read it and ``clean_up`` cannot keep it, and neither would
    get any further with the table.
    """
    named = {table.name for table in INPUTS} & tables.keys() & scoring.versions.keys()
    others = {name: v for name, v in scoring.versions.items() if name not in named}
    versions = {name: version for name, version in others.items() if _is_there(lake, name, version)}
    # A record from before it named its tables does not know.
    knows = scoring.versions and _is_there(lake, EVENTS.name, scoring.events_version)
    return ReleaseInputs(
        as_of=scoring.inputs_as_of,
        versions=versions | {name: tables[name].version for name in named},
        events_version=scoring.events_version if knows else None,
        is_increment=scoring.full_as_of is not None,
    )


def _is_there(lake: Lake, name: str, version: int) -> bool:
    contract = next((table for table in TABLES if table.name == name), None)
    if contract is None or not lake.exists(contract):
        return True  # of another version of the code: as the record says
    try:
        lake.read(contract, version=version)
    except (PySparkException, Py4JJavaError) as error:
        if not GONE.search(str(error)):
            raise
        log.warning("input_is_gone", table=name, version=version, named=None)
        return False
    return True
