"""Ranking metrics, baselines, the blend, intervals, and the gate. Lists come from recsys.scoring alone."""

from __future__ import annotations
