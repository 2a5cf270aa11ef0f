"""`masks`: the masks that the line found, to look at, to edit and to give back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, reporting

if TYPE_CHECKING:
    from flows.status.mask_export import Exported
    from models.spec_yaml import SpecFile


def masks(
    spec: SpecArgument,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them; empty, or made.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the masks that the line found, as PNGs named as the photos.

    They have the size and the lens distortion of the photos as they were given. Edit them, and give them back under
    `masks` in the specification.
    """
    with reporting("masks", json, debug) as out:
        from flows.plan.captures import load_batch
        from flows.status.account import status_in
        from flows.status.mask_export import export_masks
        from infra.storage import open_store

        spec_file = load_batch(spec)
        store = open_store(spec_file.resolve(spec_file.spec.store))
        status = status_in(spec_file, store, asset)
        with out.console.status("writing masks"):
            exported = export_masks(store, status, folder)
        _say(out, exported, folder, key := _key(spec_file, folder))
        out.document = {
            "asset": asset,
            "folder": str(folder),
            "masks": exported.files,
            "without": exported.without,
            "specification": key,
        }


def _key(spec_file: SpecFile, folder: Path) -> str:
    """What to write into the specification to give the masks back."""
    from flows.plan.scaffold import yaml_scalar
    from flows.status.mask_export import ROLE

    path, base = folder.resolve(), spec_file.folder.resolve()
    shown = path.relative_to(base) if path.is_relative_to(base) else path
    return f"masks: {{path: {yaml_scalar(shown.as_posix())}, role: {ROLE.value}}}"


def _say(out: Output, exported: Exported, folder: Path, key: str) -> None:
    from flows.cli.style import plain

    count = len(exported.files)
    out.say(f"{count} mask{'s' if count != 1 else ''} written to {folder}: white is the object", style="bold")
    for name, why in exported.without.items():
        out.say(plain(f"  no mask for {name}: {why}", "yellow"))
    if exported.without:
        out.say(
            "photos without a mask are used whole; a mask that you draw counts if it has the photo's name", style="dim"
        )
    out.say("\nto give them back, edited or not, write below the asset in the specification:")
    out.say(f"    {key}", style="cyan")
