"""Where things lie, and how Spark is started."""

from __future__ import annotations

import os
from pathlib import Path

from recsys.config.base import Config
from recsys.errors import MissingInput

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds ``recsys/``: what relative paths start from, wherever a command is called."""


def from_caller(path: Path) -> Path:
    """A file that was named on the command line, from the folder where `spark-submit.sh` was called."""
    return Path(os.environ.get("RECSYS_CALLED_FROM", "")) / path


class PathsConfig(Config):
    """Where the product reads and writes. Relative folders are relative to the checkout, not to the caller."""

    root: str = "var"
    """Everything below lies here unless named otherwise."""

    lake: str = ""
    """Delta tables, one folder each; a URI on a cluster. Default: <root>/lake."""

    mlflow: str = ""
    """Tracking URI. Default: sqlite in <root>."""

    def _under_root(self, name: str) -> Path:
        return CHECKOUT / self.root / name

    @property
    def lake_uri(self) -> str:
        if "://" in self.lake:
            return self.lake
        return str(CHECKOUT / self.lake if self.lake else self._under_root("lake"))

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow or f"sqlite:///{self._under_root('mlflow.db')}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self._under_root("mlflow_artifacts")

    @property
    def models(self) -> Path:
        """One folder per model_version: model.onnx, item vectors, manifest."""
        return self._under_root("models")

    @property
    def checkpoints(self) -> Path:
        return self._under_root("checkpoints")

    @property
    def releases(self) -> Path:
        """One folder per release, and the pointer ``current``."""
        return self._under_root("releases")

    @property
    def locks(self) -> Path:
        return self._under_root("locks")

    @property
    def work(self) -> Path:
        """Scratch space: may be deleted when no job runs."""
        return self._under_root("work")

    @property
    def reports(self) -> Path:
        return self._under_root("reports")


class SparkConfig(Config):
    """How a session is started. ``settings`` go to Spark as they are."""

    master: str = "local[2]"
    """``local[2]`` on a laptop, ``yarn`` or ``k8s://…`` on a cluster."""

    deploy_mode: str = "client"

    driver_memory: str = "3g"

    python: str = ""
    """The workers' Python. Default: the Python that submits."""

    jars: str = ""
    """Folder of the Delta JARs. Default: the set-up's cache in the checkout."""

    packaged_code: bool = False
    """Ship the package as a zip with --py-files; needless where workers share the checkout."""

    settings: dict[str, str] = {}

    def delta_jars(self) -> list[Path]:
        """The pinned Delta JARs.

        Raises:
            MissingInput: the folder has none.
        """
        folder = Path(self.jars) if self.jars else CHECKOUT / ".cache" / "jars"
        jars = sorted(folder.glob("*.jar"))
        if not jars:
            raise MissingInput(f"no Delta JARs in {folder}: run `make setup`, or set spark.jars")
        return jars
