"""How the run of an uploaded capture is started: here, or as a run of a Prefect deployment."""

from __future__ import annotations

import os
import platform
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.batch import BatchOutcome, run_batch
from flows.nightly.ledger import record
from flows.plan.batch_plan import plan_batch
from flows.plan.captures import Capture, gather
from flows.runner.base import Runner
from flows.runner.make import make_runner
from flows.uploads.poller import Poller, make_inbox
from infra.catalogue import Catalogue
from infra.queue import Queue
from infra.settings import RunSettings, UploadSettings
from models.errors import DigitizeError, ReasonCode
from models.spec_yaml import load_spec

DEPLOYMENT = "digitize_capture/capture"
"""The deployment of `prefect.yaml` that digitizes one capture."""


def digitize_asset_of(
    spec: Path,
    asset: str,
    settings: RunSettings,
    catalogue: Catalogue,
    *,
    runner: Runner | None = None,
    cancel: threading.Event | None = None,
) -> BatchOutcome:
    """Digitize one capture of a specification's places as it lies there now, and note in the catalogue how it ended.

    Raises DigitizeError(cancelled) when `cancel` was set before it ended.
    """
    plan = plan_batch(gather(load_spec(spec), [asset]).spec_file, [asset])
    outcome = run_batch(plan, settings, runner=runner, cancel=cancel)
    if outcome.cancelled:
        raise DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True, asset=asset)
    record(catalogue, plan, list(outcome.statuses.values()), outcome.run)
    return outcome


class LocalLauncher:
    """Digitizes captures in this process: `launch` returns when the capture has its result."""

    def __init__(self, spec: Path, settings: RunSettings, catalogue: Catalogue, cancel: threading.Event) -> None:
        self._spec = spec
        self._settings = settings
        self._catalogue = catalogue
        self._cancel = cancel
        self._made: Runner | None = None
        self._guard = threading.Lock()

    def _runner(self) -> Runner:
        """One for all captures: a Ray cluster of this process's own is started once."""
        with self._guard:
            if self._made is None:
                spec_file = load_spec(self._spec)
                self._made = make_runner(self._settings, spec_file.resolve(spec_file.spec.store))
            return self._made

    def launch(self, capture: Capture, key: str) -> str:
        """See `flows.uploads.poller.Launcher`."""
        outcome = digitize_asset_of(
            self._spec, capture.asset, self._settings, self._catalogue, runner=self._runner(), cancel=self._cancel
        )
        return outcome.run or "nothing had to run"

    def close(self) -> None:
        """Give back what the runner holds."""
        if self._made is not None:
            self._made.close()


class DeploymentLauncher:
    """Asks a Prefect server for the run. The server's idempotency key makes a second request find the first run.

    Args:
        deployment: `flow/deployment`.
    """

    def __init__(self, spec: Path, deployment: str = DEPLOYMENT) -> None:
        if not os.environ.get("PREFECT_API_URL"):
            raise DigitizeError(
                ReasonCode.SPEC_INVALID,
                "expected a Prefect server that has the deployment, found no PREFECT_API_URL",
                "Set it, or leave --deployment out to digitize in this process.",
            )
        self._spec = spec
        self._deployment = deployment

    def launch(self, capture: Capture, key: str) -> str:
        """See `flows.uploads.poller.Launcher`."""
        from prefect.client.schemas.objects import FlowRun
        from prefect.deployments import run_deployment
        from prefect.exceptions import PrefectException

        try:
            run = run_deployment(  # type: ignore[call-arg]  # _sync: this may run in a thread of an async program
                self._deployment,
                parameters={"spec": str(self._spec), "asset": capture.asset},
                timeout=0,
                flow_run_name=f"upload {capture.asset}",
                tags=["digitize", "upload", f"asset:{capture.asset}"],
                idempotency_key=key,
                as_subflow=False,
                _sync=True,
            )
            assert isinstance(run, FlowRun)
        except (PrefectException, OSError) as error:
            raise DigitizeError(
                ReasonCode.WORKER_LOST,
                f"expected the Prefect deployment {self._deployment}, found: {type(error).__name__}: {error}",
                "Check PREFECT_API_URL, and that the deployments of prefect.yaml are made.",
                retryable=True,
                asset=capture.asset,
            ) from error
        return str(run.id)


@contextmanager
def make_poller(spec: Path, deployment: str | None, stop: threading.Event) -> Iterator[Poller]:
    """The poller of a specification's places, as the settings of this machine say.

    Args:
        deployment: of a Prefect server, to start runs of; None to digitize in this process.
        stop: cancels what runs in this process.

    Raises DigitizeError(spec_invalid) when the specification names no places.
    """
    settings, run_settings, catalogue = UploadSettings(), RunSettings(), Catalogue()
    spec_file = load_spec(spec)
    if not spec_file.spec.captures:
        message = "expected places under `captures:`, found none"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, "See docs/spec.md.", path=str(spec))
    queue = None if settings.queue_url is None else Queue(settings.queue_url, settings)
    owner = f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    inbox = make_inbox(spec_file, catalogue)
    if deployment is not None:
        yield Poller(spec, inbox, DeploymentLauncher(spec.absolute(), deployment), settings, owner, queue, at_once=4)
        return
    launcher = LocalLauncher(spec, run_settings, catalogue, stop)
    at_once = run_settings.assets_at_once or (4 if run_settings.runner == "ray" else 1)
    try:
        yield Poller(spec, inbox, launcher, settings, owner, queue, at_once=at_once)
    finally:
        launcher.close()
