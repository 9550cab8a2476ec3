"""A raw source described in conf -> contract rows, and the rows that were refused, with counts that add up."""

from __future__ import annotations

from recsys.ingest.batch import Ingested, ingest_sources
from recsys.ingest.description import SourceDescription
from recsys.ingest.descriptions import read_descriptions

__all__ = ["Ingested", "SourceDescription", "ingest_sources", "read_descriptions"]
