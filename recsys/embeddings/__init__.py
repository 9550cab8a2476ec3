"""What joins the training processes: a small protocol, Horovod behind it, or one process alone."""

from __future__ import annotations

from recsys.embeddings.comm import Comm, HorovodComm, LocalComm

__all__ = ["Comm", "HorovodComm", "LocalComm"]
