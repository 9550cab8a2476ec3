"""What joins the training processes, and the embedding tables that are spread over them."""

from __future__ import annotations

from recsys.embeddings.comm import Comm, HorovodComm, LocalComm
from recsys.embeddings.device import CPU, device_of
from recsys.embeddings.figures import StepFigures
from recsys.embeddings.plan import Plan, plan_tables
from recsys.embeddings.routing import Bags
from recsys.embeddings.sharded import ShardedEmbeddings
from recsys.embeddings.snapshot import FrozenRows
from recsys.embeddings.tables import EmbeddingTable, LazyAdam, RowwiseAdagrad, Sgd
from recsys.embeddings.torch_comm import TorchComm

__all__ = [
    "CPU",
    "Bags",
    "Comm",
    "EmbeddingTable",
    "FrozenRows",
    "HorovodComm",
    "LazyAdam",
    "LocalComm",
    "Plan",
    "RowwiseAdagrad",
    "Sgd",
    "ShardedEmbeddings",
    "StepFigures",
    "TorchComm",
    "device_of",
    "plan_tables",
]
