"""What is published: manifests, snapshots and the one pointer. Importing it needs no pyspark."""

from __future__ import annotations
