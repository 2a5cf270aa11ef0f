"""Settings of a machine or a deployment, from environment variables and secret files. Nothing here changes a result.

`docs/operations.md` lists them; the tests check that list against these classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class S3Settings(BaseSettings):
    """How to reach S3. Left empty, boto3's own chain applies (environment, profile, instance role)."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITIZE_S3_",
        frozen=True,
        secrets_dir=Path("/run/secrets") if Path("/run/secrets").is_dir() else None,
    )

    endpoint_url: str | None = None
    """Address of an S3-compatible server; None for AWS."""
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None


class RunSettings(BaseSettings):
    """Where stages run and how many at once."""

    model_config = SettingsConfigDict(env_prefix="DIGITIZE_", frozen=True)

    runner: Literal["inline", "ray"] = "inline"
    """`inline`: one child process a stage on this machine; `ray`: one Ray task a stage."""
    ray_address: str | None = None
    """`auto`, `host:port` or `ray://host:port`; `http://host:8265` hands the whole run to that cluster as a Ray job;
    None starts Ray on this machine."""
    gpu_memory_gb: float | None = Field(default=None, gt=0)
    """Memory of one GPU of the cluster in GB; None asks the first one."""
    assets_at_once: int = Field(default=0, ge=0)
    """Assets in flight; 0 chooses by the runner (1 inline, 4 with Ray)."""
    scratch: Path | None = None
    """Local folder for attempts; None for the system's temporary folder."""
    threads: int = Field(default=0, ge=0)
    """Threads a stage may use; 0 for the CPU cores that it declares, at most those of the machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
