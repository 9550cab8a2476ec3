"""The search for better settings of training, after a gate that refused or on demand."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from recsys.config.base import Config
from recsys.config.sections import TrainingConfig
from recsys.errors import ConfigError

Setting = Literal[
    "learning_rate", "dropout", "embedding_dim", "num_blocks", "num_heads", "num_negatives", "weight_decay",
    "warmup_steps", "max_gradient_norm", "quiet_days", "global_batch_size",
]  # fmt: skip
"""Of ``training``; the number of epochs is found by every trial itself."""


Settings = dict[str, int | float]
"""Values of some of them."""


class Between(Config):
    """Any value from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False
    """As many trials below the geometric mean as above it."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"low must be less than high{', and above 0' if self.log else ''}; got {self.low} and {self.high}"
            )
        return self

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.low, self.high)


Values = Annotated[tuple[int | float, ...], Field(min_length=1)]


class TuningConfig(Config):
    when: Literal["on_fail", "never"] = "on_fail"
    """on_fail: a night whose new model the gate refuses searches, and shows the gate one winner."""
    trials: int = Field(6, ge=1)
    """Settings tried at most, today's among them."""
    minutes: float = Field(10.0, gt=0)
    """No trial begins that would end later if it took as long as the longest so far."""
    space: dict[Setting, Between | Values] = {
        "learning_rate": Between(low=1e-3, high=2e-2, log=True),
        "dropout": Between(low=0.0, high=0.5),
        "embedding_dim": (32, 64, 128),
        "num_blocks": (1, 2),
        "num_negatives": (512, 1024, 2048, 4096),
    }
    """What is searched: a range, or some values. Today's value of each is among them, whatever it is."""
    seed: int = 17

    @model_validator(mode="after")
    def _training_takes_them(self) -> Self:
        for name, searched in self.space.items():
            for value in searched.ends if isinstance(searched, Between) else searched:
                try:
                    TrainingConfig.model_validate({name: value})
                except ValidationError as error:
                    raise ValueError(
                        f"tuning.space.{name} holds {value}, which training.{name} does not take: "
                        f"{error.errors()[0]['msg']}"
                    ) from None
        return self


def with_settings(training: TrainingConfig, settings: Settings) -> TrainingConfig:
    """The section with these settings.

    Raises:
        ConfigError: one of them, or two together, are nothing that training takes.
    """
    try:
        return TrainingConfig.model_validate(training.model_dump() | settings)
    except ValidationError as error:
        raise ConfigError(
            f"training does not take {settings}: {error.errors()[0]['msg']}"
        ) from None
