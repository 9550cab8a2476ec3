"""The ranking model: stage 2 of scoring, where conf says so."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recsys.config.pace import Pace

Interaction = Literal["dcn", "dlrm", "fm", "ncf", "linear"]


class RankingConfig(Pace):
    """Everything that decides the weights of the ranking model, and whether there is one."""

    section: ClassVar[str] = "ranking"

    enabled: bool = False
    interaction: Interaction = "dcn"
    """How fields meet: cross layers, pairwise dots, a factorisation machine, NeuMF; linear: not at all."""
    embedding_dim: int = Field(16, ge=2, multiple_of=2)
    """Width of every field's table."""
    history_bag: int = Field(20, ge=1)
    """Newest items of the history whose mean is a field."""
    cross_rows: int = Field(1 << 18, ge=2)
    """Rows of a crossed field's table; pairs are hashed where there are more of them."""
    num_cross_layers: int = Field(2, ge=1)
    cross_rank: int = Field(32, ge=0)
    """Rank of the cross layers' matrices; 0 is full."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 32)
    """Widths of the perceptron above (dcn, dlrm) or beside (ncf) the interaction."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the perceptron's units."""
    field_dropout: float = Field(0.2, ge=0, lt=1)
    """Of whole fields: how often an id that is known is treated as one that is not."""
    num_negatives: int = Field(4, ge=1)
    """Items shown beside every positive, half uniform, half by popularity. A probability holds where one in
    num_negatives + 1 of the items shown is taken, the others drawn in this way, and for no other rate."""
    update_rule: Literal["adagrad", "adam", "sgd"] = "adagrad"
    """Of the tables' rows: row-wise Adagrad, lazy Adam, or plain steps."""
    embedding_learning_rate: float = Field(0.05, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    """Of the dense parameters."""
    weight_decay: float = Field(1e-5, ge=0)
    warmup_steps: int = Field(20, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    global_batch_size: int = Field(64, ge=1)
    """Windows of history per step, over all processes."""
    max_epochs: int = Field(10, ge=1)
    patience: int = Field(2, ge=1)
    """Epochs without a better validation AUC before the choosing run stops."""
