"""From a specification to the plan of a batch."""

from __future__ import annotations

from collections.abc import Iterable

from flows.plan.chains import resolve
from flows.plan.committed import AssetPlan, BatchPlan
from flows.plan.photo_names import unknown_names
from flows.plan.sources import Refer, find_sources, remembering
from models.errors import DigitizeError
from models.spec_yaml import SpecFile
from models.verdict import gates_of


def plan_batch(spec_file: SpecFile, only: Iterable[str] = (), refer: Refer | None = None) -> BatchPlan:
    """Resolve a specification.

    Args:
        only: asset ids to plan; all when empty.
        refer: how sources are identified; by what the catalogue remembers of their files when None.

    Raises DigitizeError(spec_invalid or not_built_yet) with file and line on unknown stages, methods, options or ids,
    and on methods that do not fit together. A source that is missing concerns its asset alone: `unusable`.
    """
    spec, wanted = spec_file.spec, set(only)
    if unknown := wanted - {asset.id for asset in spec.assets}:
        known = ", ".join(asset.id for asset in spec.assets)
        raise spec_file.error(("assets",), f"expected one of {known}, found {', '.join(sorted(unknown))}")
    refer = refer or remembering()
    plans, unusable = [], {}
    for index, asset in enumerate(spec.assets):
        if wanted and asset.id not in wanted:
            continue
        chains = resolve(spec_file, index, asset)
        read = {name for chain in chains for stage in chain.values() for name in stage.external}
        try:
            sources = find_sources(spec_file, index, asset, read, refer)
            for mistake in unknown_names(spec_file, index, asset):
                raise mistake
        except DigitizeError as error:
            error.asset = asset.id
            unusable[asset.id] = error
            continue
        seed = spec.seed if asset.seed is None else asset.seed
        gates = gates_of(spec, asset)
        plans.append(AssetPlan.of_chains(asset.id, spec.name, seed, chains, sources, asset.priority, gates))
    return BatchPlan(spec.name, spec_file.resolve(spec.store), tuple(plans), unusable)
