"""Which network finds the object where nobody drew masks: for plans and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.machine.doctor import Check, Level
from flows.plan.committed import Chain
from flows.plan.sources import network_ref
from models.errors import DigitizeError
from models.spec import PACKAGE, AssetSpec
from models.spec_yaml import SpecFile
from models.stage import Stage
from models.weights import package_file
from tasks.mask.options import NETWORK
from tasks.saliency.u2net import EXTERNAL, WEIGHTS


def network_of(asset: AssetSpec | None, chain: Chain) -> str | None:
    """The network that a chain's mask stage runs, for people; None where it runs none."""
    read = chain[Stage.MASK].external if Stage.MASK in chain else ()
    if NETWORK in read and asset is not None and asset.mask_network:
        return f"{asset.mask_network.network}, sha256 {asset.mask_network.sha256[:12]}"
    return f"{WEIGHTS} of models/weights.txt" if EXTERNAL in read else None


def network_lines(spec_file: SpecFile | None, chains: Mapping[str, Chain]) -> list[str]:
    """One line a network with the number of its assets, from each asset's first choice of methods."""
    given = {asset.id: asset for asset in spec_file.spec.assets} if spec_file else {}
    count: dict[str, int] = {}
    for name, chain in chains.items():
        if (found := network_of(given.get(name), chain)) is not None:
            count[found] = count.get(found, 0) + 1
    return [f"masks by {found}  ({n} asset{'s' if n > 1 else ''})" for found, n in count.items()]


def check_networks(spec_file: SpecFile) -> Iterable[Check]:
    """Whether the networks that a specification gives are there, hold the bytes that were meant, and can be run."""
    found = {asset.mask_network for asset in spec_file.spec.assets if asset.mask_network}
    for each in sorted(found, key=lambda network: network.network):
        yield _check(each.network, spec_file.resolve(each.network), each.sha256)


def _check(name: str, uri: str, sha256: str) -> Check:
    from tasks.saliency.network import OnnxNetwork

    try:
        (file,) = network_ref(uri, sha256).files
        if uri.startswith("s3://"):
            return Check("network", Level.OK, f"{name}: there; its sha256 is checked where it runs")
        package = uri.removeprefix(PACKAGE).partition("/")[0]
        path = package_file(package, file.path, sha256) if uri.startswith(PACKAGE) else Path(uri)
        width, height = OnnxNetwork(path, where=name).size
    except DigitizeError as error:
        return Check("network", Level.FAIL, f"{name}: {error.message}", error.hint)
    return Check("network", Level.OK, f"{name}: reads {width} x {height} px, sha256 {sha256[:12]}")
