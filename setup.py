"""The package: `pip install .` brings config and contracts alone; the extras bring the engines."""

from __future__ import annotations

from setuptools import find_packages, setup

CONFIG = [
    "pydantic>=2.7,<3",
    "pyyaml>=6,<7",
    "structlog>=24",
    "typer>=0.12",
    "rich>=13",
]

BATCH = [
    "pyspark>=4.0,<4.1",
    "delta-spark>=4.0,<4.5",
    "petastorm>=0.13.1,<0.14",
    "pyarrow>=14,<15",
    "numpy>=1.26,<2",
    "pandas>=2.2,<3",
    "scipy>=1.11",
    "psutil>=5.9",
    "torch>=2.10",
    "horovod==0.28.1",
    "mlflow-skinny>=3.1,<4",
    "sqlalchemy>=2",
    "alembic>=1.13",
    "onnx>=1.21",
    "onnxscript>=0.5",
    "deltalake>=1.2",
    "duckdb==1.5.5",
    "duckdb-extension-delta==1.5.5",
    "lmdb>=1.5",
    "orjson>=3.10",
    "altair>=5.4",
    "optuna>=4",
    "vl-convert-python>=1.7",
]

SERVING = [
    "fsspec>=2024.6",
    "granian>=2",
    "starlette>=0.40",
    "lmdb>=1.5",
    "orjson>=3.10",
    "prometheus-client>=0.20",
]

DEV = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "hypothesis>=6.110",
    "ruff>=0.6",
    "mypy>=1.11",
    "import-linter>=2",
    "types-pyyaml",
    "pandas-stubs",
    "jupytext>=1.16",
    "nbclient>=0.10",
    "ipykernel>=6",
    "httpx>=0.27",
    "ir-measures>=0.3.7",
    "schemathesis>=4.32",
]

setup(
    name="recsys",
    version="0.1.0",
    description="Nightly recommendations for a shop: Spark, Delta Lake, Horovod, ONNX, served in milliseconds",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["recsys", "recsys.*"]),
    package_data={"recsys": ["py.typed", "serving/*.html", "serving/*.json"]},
    install_requires=CONFIG,
    extras_require={
        "batch": BATCH,
        "serving": SERVING,
        "cpu": ["onnxruntime>=1.20"],
        "gpu": ["onnxruntime-gpu>=1.20"],
        "s3": ["s3fs>=2024.6"],
        "dev": DEV,
    },
    entry_points={"console_scripts": ["recsys = recsys.cli:app"]},
)
