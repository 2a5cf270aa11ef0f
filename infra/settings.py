"""Settings of a machine or a deployment, from environment variables and secret files. Nothing here changes a result.

`docs/operations.md` lists them; the tests check that list against these classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_SECRETS = Path("/run/secrets") if Path("/run/secrets").is_dir() else None
"""Where orchestrators put secrets as files, named as the variables in lower case."""


class S3Settings(BaseSettings):
    """How to reach S3. Left empty, boto3's own chain applies (environment, profile, instance role)."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITIZE_S3_",
        frozen=True,
        secrets_dir=_SECRETS,
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
    """Assets in flight; 0 chooses: 1 inline, with Ray as many as keep the cluster's GPUs (or cores) busy."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPU hours that one run may spend; assets that do not fit are left for the next run. None for no limit."""
    scratch: Path | None = None
    """Local folder for attempts; None for the system's temporary folder."""
    threads: int = Field(default=0, ge=0)
    """Threads a stage may use; 0 for the CPU cores that it declares, at most those of the machine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def elsewhere(self) -> bool:
        """Whether stages run on a cluster rather than on this machine."""
        return self.runner == "ray" and self.ray_address is not None


class NightSettings(BaseSettings):
    """The catalogue of what is published and what it took, and the nights that keep it up to date."""

    model_config = SettingsConfigDict(env_prefix="DIGITIZE_", frozen=True, secrets_dir=_SECRETS)

    database_url: SecretStr | None = None
    """`postgresql+pg8000://user:password@host/name`, or `sqlite:////path`; None for a file of this user."""
    min_success_ratio: float = Field(default=0.9, ge=0, le=1)
    """A night fails when a smaller share of the assets that it worked on ended with a result."""
    tries: int = Field(default=3, ge=1)
    """Nights that try an unchanged asset again which could not be worked on; then it waits for a change."""
    notify_url: SecretStr | None = None
    """Who hears how the night ended, as an Apprise URL (`slack://...`, `mailto://...`, `json://host/path`)."""
    published_url: str | None = None
    """Where the first publishing target is served over HTTP, for links in the Prefect UI."""
    report_url: str | None = None
    """Where people reach the Prefect UI, for the link in that message; None for PREFECT_UI_URL."""


class UploadSettings(BaseSettings):
    """Where news of uploads comes from."""

    model_config = SettingsConfigDict(env_prefix="DIGITIZE_UPLOADS_", frozen=True, secrets_dir=_SECRETS)

    queue_url: str | None = None
    """The SQS queue that the bucket notifies; None for none."""
    dead_letter_url: str | None = None
    """The queue that SQS moves undeliverable messages to; `--replay` brings them back."""
    sqs_endpoint_url: str | None = None
    """Address of an SQS-compatible server; None for AWS."""
    push_port: int = Field(default=0, ge=0, le=65535)
    """Listen for events pushed over HTTP (Ceph, MinIO); 0 for not."""
    push_host: str = "127.0.0.1"
    push_token: SecretStr | None = None
    """What pushers must show: `Authorization: Bearer TOKEN`, or the path `/events/TOKEN`. Required with `push_port`."""
    sweep_s: float = Field(default=300.0, gt=0)
    """Seconds between two looks at everything, which find what no event told of."""
    poll_s: float = Field(default=5.0, gt=0)
    """Seconds between two rounds."""
