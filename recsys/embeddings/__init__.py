"""What joins the training processes, and the embedding tables that are spread over them."""

from __future__ import annotations

from recsys.embeddings.comm import Comm, HorovodComm, LocalComm
from recsys.embeddings.plan import Plan, plan_tables
from recsys.embeddings.sharded import Bags, ShardedEmbeddings
from recsys.embeddings.tables import EmbeddingTable, LazyAdam, RowwiseAdagrad, Sgd

__all__ = [
    "Bags",
    "Comm",
    "EmbeddingTable",
    "HorovodComm",
    "LazyAdam",
    "LocalComm",
    "Plan",
    "RowwiseAdagrad",
    "Sgd",
    "ShardedEmbeddings",
    "plan_tables",
]
