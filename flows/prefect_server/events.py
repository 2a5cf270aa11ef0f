"""What a Prefect server is told of task runs: nothing where nobody looks, and not for ever where it has gone away.

`flows.prefect_server.local.prepare` must have run before this module is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.events.clients import NullEventsClient, PrefectEventsClient
from prefect.events.schemas.events import Event
from prefect.events.worker import EventsWorker, emit_events_to_cloud


class PatientClient(PrefectEventsClient):
    """Messages wait for a server that is away while a run goes on. Once it is over the first that cannot be sent is the
    last: Prefect would try each for seconds, and hold the process until it has tried all."""

    over = False
    _attempts = 0
    _gone = False

    @property
    def _reconnection_attempts(self) -> int:  # an attribute of Prefect's class
        return 0 if type(self).over else self._attempts

    @_reconnection_attempts.setter
    def _reconnection_attempts(self, attempts: int) -> None:
        self._attempts = attempts

    async def _emit(self, event: Event) -> None:
        if self._gone:
            return
        try:
            await super()._emit(event)
        except Exception:
            self._gone = type(self).over
            raise


@contextmanager
def told(somebody_looks: bool) -> Iterator[None]:
    """Within this block task runs are told to the server, if somebody looks at it."""
    if not somebody_looks:
        EventsWorker.set_client_override(NullEventsClient)
    elif not emit_events_to_cloud():
        EventsWorker.set_client_override(PatientClient)
    PatientClient.over = False
    try:
        yield
    finally:
        PatientClient.over = True
