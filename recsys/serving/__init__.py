"""The lookup service: one memory-mapped read and one write per request. Imports neither pyspark nor torch."""

from __future__ import annotations
