"""Forget commits so that stages run again."""

from __future__ import annotations

from flows.plan.committed import AssetPlan
from flows.plan.walk import all_walks
from flows.status.account import stage_prefix
from flows.status.files import read_status
from models.artifacts import DONE_FILE
from models.stage import Stage
from models.store import Store
from tasks import registry
from tasks.commit import forget


def forget_from(plan: AssetPlan, store: Store, first: Stage) -> list[Stage]:
    """Undo an asset's commits from `first` on. Files of the attempts stay; nothing before `first` is touched.

    The last stage is forgotten first, so that a kill in between leaves a chain that is whole up to some stage.
    Commits that only the asset's last status names (a run that stepped down to smaller settings) go as well.

    Returns:
        the stages that had a commit, in order.
    """
    status = read_status(store, plan.batch, plan.id)
    walks = all_walks(plan, store)
    forgotten = []
    for stage in reversed([each for each in registry.stages() if registry.position(each) >= registry.position(first)]):
        known = False
        for found in walks:
            if stage in found.done:
                forget(store, found.plan.request(stage, found.done, found.tried))
                known = True
        prefix = None if status is None else stage_prefix(status, stage)
        if prefix is not None and store.stat(f"{prefix}/{DONE_FILE}") is not None:
            store.delete(f"{prefix}/{DONE_FILE}")
            known = True
        if known:
            forgotten.append(stage)
    return forgotten[::-1]
