"""The whole configuration: one section per job or engine."""

from __future__ import annotations

from recsys.config.base import Config
from recsys.config.gate import GateConfig
from recsys.config.places import PathsConfig, SparkConfig
from recsys.config.ranking import RankingConfig
from recsys.config.retention import AuditConfig, RetentionConfig
from recsys.config.rules import RulesConfig
from recsys.config.sections import (
    CandidatesConfig,
    EvaluationConfig,
    ExportConfig,
    FeaturesConfig,
    GenerateShopConfig,
    IngestConfig,
    PublishConfig,
    ScoringConfig,
    TrainingConfig,
    TrainingSetConfig,
)
from recsys.config.serving import ServingConfig
from recsys.config.shop import ShopConfig
from recsys.config.tuning import TuningConfig


class RecsysConfig(Config):
    """Everything that decides what the jobs do, resolved."""

    env: str = "local"
    shop: ShopConfig = ShopConfig()
    paths: PathsConfig = PathsConfig()
    spark: SparkConfig = SparkConfig()
    ingest: IngestConfig = IngestConfig()
    features: FeaturesConfig = FeaturesConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    training_set: TrainingSetConfig = TrainingSetConfig()
    training: TrainingConfig = TrainingConfig()
    ranking: RankingConfig = RankingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    tuning: TuningConfig = TuningConfig()
    export: ExportConfig = ExportConfig()
    rules: RulesConfig = RulesConfig()
    scoring: ScoringConfig = ScoringConfig()
    publish: PublishConfig = PublishConfig()
    serving: ServingConfig = ServingConfig()
    audit: AuditConfig = AuditConfig()
    retention: RetentionConfig = RetentionConfig()
    generate_shop: GenerateShopConfig = GenerateShopConfig()
