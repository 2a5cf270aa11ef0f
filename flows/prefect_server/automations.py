"""Automations of the Prefect server: they find ghosts and ring the alarm.

    python -m flows.prefect_server.automations      makes them or makes them anew

`flows.prefect_server.local.prepare` must have run before this module is imported.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment

ZOMBIE_S = 120.0
"""A flow run whose heartbeat (every 30 seconds) is missing for so long is marked as crashed."""
ALARM = "alarm"
"""The deployment of `digitize_alarm`."""
FLOWS = ("digitize_batch", "digitize_nightly", "digitize_capture", "digitize_housekeeping")


def automations() -> list[AutomationCore]:
    """Ghosts are marked as crashed, and what crashed or failed without having told anybody rings the alarm."""
    end = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    ours: dict[str, Any] = {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}
    zombies = AutomationCore(
        name="digitize: runs without a heartbeat",
        description="A run whose machine is gone is marked as crashed; the next run takes its assets over.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=ours,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *end},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=ZOMBIE_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: the run's machine is gone")],
    )
    alarm = AutomationCore(
        name="digitize: runs that crashed or failed",
        description="Rings digitize_alarm, which sends a message to DIGITIZE_NOTIFY_URL.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={**ours, "prefect.resource.name": [name for name in FLOWS if name != "digitize_nightly"]},
            expect={"prefect.flow-run.Crashed", "prefect.flow-run.Failed"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[],
    )
    return [zombies, alarm]


def make_automations() -> None:
    """Make or renew them on the server of PREFECT_API_URL. The alarm wants the deployment `digitize_alarm/alarm`."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"digitize_alarm/{ALARM}")
        for automation in automations():
            each = automation
            if not each.actions:
                parameters = {"run": {"__prefect_kind": "jinja", "template": "{{ event.resource.id }}"}}
                parameters |= {"what": {"__prefect_kind": "jinja", "template": "{{ event.event }}"}}
                action = RunDeployment(source="selected", deployment_id=deployment.id, parameters=parameters)
                each = each.model_copy(update={"actions": [action]})
            known = client.read_automations_by_name(each.name)
            if known:
                client.update_automation(known[0].id, each)
            else:
                client.create_automation(each)


if __name__ == "__main__":
    make_automations()
