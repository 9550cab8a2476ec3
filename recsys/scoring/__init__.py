"""Top-N lists: the encoder, the kernel, rules, and the Spark adapter. Every list comes through here."""

from __future__ import annotations
