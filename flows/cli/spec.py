"""`init`, `sample`, `validate` and `schema`: everything before a batch is run."""

from __future__ import annotations

import json as jsonlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, printable, reporting
from models.errors import DigitizeError, ReasonCode
from tasks.sample.material import Material

if TYPE_CHECKING:
    from flows.plan.committed import Chain
    from models.stage import Stage

SPEC_NAME = "batch.yaml"


class SampleStyle(StrEnum):
    """How the sample's photographs look."""

    STUDIO = "studio"
    PHONE = "phone"


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the photos lie.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a batch.yaml that is there.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a commented batch.yaml for the photos in FOLDER.

    Each folder of photos, archive and video in it becomes an asset; what is passed over is named.
    """
    with reporting("init", json, debug) as out:
        from flows.plan.discover import find_captures, slug
        from flows.plan.scaffold import render_spec
        from models.listing import summary

        if not folder.is_dir():
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "expected a folder with photos", path=str(folder))
        found = find_captures(folder)
        captures, passed = found.captures, summary(found.passed)
        if not captures:
            there = f" ({'; '.join(passed[:5])})" if passed else ""
            raise DigitizeError(
                ReasonCode.SOURCE_EMPTY,
                f"expected photos, or folders of photos, archives or videos; found none{there}",
                "One folder an object, with its photos in it; `digitize sample FOLDER` makes one to try.",
                path=str(folder),
            )
        path = folder / SPEC_NAME
        _refuse_existing(path, force)
        name = slug(folder.resolve().name)
        path.write_text(render_spec(name, captures, SPEC_NAME), encoding="utf-8")
        _say_new_batch(out, path, [(each.id, each.photos, each.about) for each in captures])
        for line in passed:
            out.say(printable(f"passed over: {line}"), style="dim")
        out.document = {
            "spec": str(path),
            "name": name,
            "assets": [
                {"id": each.id, "photos": each.photos, "masks": each.masks, "poses": each.poses, "about": each.about}
                for each in captures
            ],
            "passed_over": summary(found.passed, most=len(found.passed)),
        }


def _refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise DigitizeError(
            ReasonCode.SPEC_INVALID, "there is a specification already", "--force replaces it.", path=str(path)
        )


def _say_new_batch(out: Output, path: Path, rows: list[tuple[str, str, str]]) -> None:
    from flows.cli.style import plain, table

    grid = table("asset", "photos", "")
    for row in rows:
        grid.add_row(plain(row[0], "bold"), plain(row[1]), plain(row[2], "dim"))
    out.show(grid)
    out.say(f"\nwrote {path}")
    out.say(f"next: digitize plan {path}", style="dim")


def sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it; made if need be.")],
    style: Annotated[
        SampleStyle, typer.Option(help="studio: plain backdrop, ideal camera. phone: cluttered room, a phone's faults.")
    ] = SampleStyle.STUDIO,
    views: Annotated[
        int | None, typer.Option(min=9, max=500, help="Photographs; 48 for studio, 40 for phone.", show_default=False)
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=64, max=8000, help="Pixels across; 640 or 1024.", show_default=False)
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=64, max=8000, help="Pixels down; 480 or 768.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other photographs.")] = 0,
    mesh: Annotated[
        Path | None, typer.Option(help="Your own object (PLY, OBJ or GLB) in place of the flask; phone only.")
    ] = None,
    glossy: Annotated[bool, typer.Option("--glossy", help="Highlights on the paint; phone only.")] = False,
    material: Annotated[
        Material, typer.Option(help="mirror and glass show what photos cannot measure; phone only.")
    ] = Material.PAINT,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds files already.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a small capture with known truth, to try the whole line."""
    with reporting("sample", json, debug) as out:
        from models.spec_yaml import load_spec

        if folder.exists() and not folder.is_dir():
            raise DigitizeError(ReasonCode.SPEC_INVALID, "expected a folder", "Choose another.", path=str(folder))
        if folder.is_dir() and any(folder.iterdir()) and not force:
            raise DigitizeError(
                ReasonCode.SPEC_INVALID, "the folder is not empty", "--force writes into it anyway.", path=str(folder)
            )
        painted = material is Material.PAINT
        if style is SampleStyle.STUDIO and (mesh is not None or glossy or not painted):
            raise DigitizeError(
                ReasonCode.SPEC_INVALID,
                "--mesh, --glossy and --material belong to the phone style",
                "Add --style phone.",
            )
        if glossy and not painted:
            raise DigitizeError(
                ReasonCode.SPEC_INVALID, f"--glossy is for paint, found --material {material}", "Leave one of them out."
            )
        given = {"views": views, "width": width, "height": height}
        size = {name: value for name, value in given.items() if value is not None}
        with out.console.status("rendering the sample capture"):
            _write_capture(folder, style, size, seed, mesh, glossy, material)
        path = folder / SPEC_NAME
        spec = load_spec(path).spec
        _say_new_batch(out, path, [(asset.id, asset.photos, "sample, with truth") for asset in spec.assets])
        out.document = {"spec": str(path), "name": spec.name, "assets": [asset.id for asset in spec.assets]}


def _write_capture(
    folder: Path,
    style: SampleStyle,
    size: dict[str, int],
    seed: int,
    mesh: Path | None,
    glossy: bool,
    material: Material,
) -> None:
    if style is SampleStyle.STUDIO:
        from tasks.sample.capture import write_sample

        write_sample(folder, seed=seed, **size)
    else:
        from tasks.sample.phone_capture import write_phone_sample

        write_phone_sample(folder, seed=seed, mesh=mesh, glossy=glossy, material=material, **size)


def validate(
    spec: SpecArgument,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every effective option.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find all mistakes of a specification, with their lines.

    Without mistakes it shows which method each stage of each asset uses; --verbose shows every effective option.
    """
    with reporting("validate", json, debug) as out:
        from flows.machine.mask_networks import network_lines
        from flows.plan.validate import check_spec

        checked = check_spec(spec)
        out.document = {
            "spec": str(spec),
            "valid": not checked.mistakes,
            "mistakes": [
                {"code": each.code.value, "path": each.path, "line": each.line, "message": each.message}
                for each in checked.mistakes
            ],
            "assets": _resolved_document(checked.stages),
        }
        if checked.mistakes:
            out.exit_code = ExitCode.USAGE
            _say_mistakes(out, checked.mistakes)
            return
        _say_resolved(out, checked.stages, verbose)
        first = {name: chains[0] for name, chains in checked.stages.items() if chains}
        for line in network_lines(checked.spec_file, first):
            out.say(line, style="dim")
        count = len(checked.stages)
        out.say(f"\n{spec} is valid: {count} asset{'s' if count > 1 else ''}", style="green")


def _resolved_document(assets: dict[str, list[Chain]]) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "stages": _chain_document(chains[0]) if chains else {},
            "fallbacks": [_chain_document(chain) for chain in chains[1:]],
        }
        for name, chains in assets.items()
    ]


def _chain_document(chain: Chain) -> dict[str, Any]:
    return {
        str(stage): {"method": plan.method, "version": plan.version, "options": plan.options}
        for stage, plan in chain.items()
    }


def _say_mistakes(out: Output, mistakes: Any) -> None:
    from rich.text import Text

    from flows.cli.style import plain

    for each in mistakes:
        where = f"{each.path}:{each.line}" if each.line else each.path
        out.say(plain(where, "bold"), Text("  "), plain(each.message))
        if each.code not in (ReasonCode.SPEC_INVALID, ReasonCode.SOURCE_NOT_FOUND):
            out.say(Text("  "), plain(each.code.value, "dim"))
    count = len(mistakes)
    out.say(f"\n{count} mistake{'s' if count > 1 else ''}", style="bold red")


def _say_resolved(out: Output, assets: dict[str, list[Chain]], verbose: bool) -> None:
    from flows.cli.style import plain, table
    from tasks import registry

    if not verbose:
        grid = table("asset", *registry.stages())
        for name, chains in assets.items():
            grid.add_row(plain(name, "bold"), *(plain(_methods(chains, stage)) for stage in registry.stages()))
        out.show(grid)
        return
    for name, plans in ((name, chain) for name, chains in assets.items() for chain in chains):
        out.say(plain(name, "bold"))
        grid = table("stage", "method", "option", "value")
        for stage, plan in plans.items():
            options = list(plan.options.items()) or [("", "")]
            for index, (key, value) in enumerate(options):
                first = index == 0
                shown = value if isinstance(value, str) else jsonlib.dumps(value)
                method = f"{plan.method} {plan.version}" if first else ""
                grid.add_row(stage if first else "", method, plain(key), plain(shown, "cyan"))
            grid.add_section()
        out.show(grid)


def _methods(chains: list[Chain], stage: Stage) -> str:
    """A stage's method, or its methods in the order in which they are tried; `skipped` where no stage needs it."""
    names = dict.fromkeys(chain[stage].method for chain in chains if stage in chain)
    return ", then ".join(names) or "skipped"


def schema(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Print the JSON schema of the specification."""
    with reporting("schema", json, debug) as out:
        document = spec_schema()
        if json:
            out.document = {"schema": document}
        else:
            typer.echo(schema_text(document), nl=False)


def spec_schema() -> dict[str, Any]:
    """The JSON schema of a batch specification."""
    from models.spec import BatchSpec

    found = {key: value for key, value in BatchSpec.model_json_schema().items() if key != "title"}
    scale, needed = _scale_schema(found["$defs"]["Scale"])
    found["$defs"] = {**found["$defs"], **needed, "Scale": scale}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "digitize batch", **found}


def _scale_schema(plain: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of `scale` with the keys of each kind that is built or installed, and the definitions that it needs.

    Args:
        plain: the schema of the record, which lets a kind bring any keys.
    """
    from models.scale import NONE
    from models.stage import Stage
    from tasks import registry

    kinds, needed = [], dict[str, Any]()
    for name in registry.methods(Stage.SCALE):
        module = registry.method(Stage.SCALE, name)
        own = module.Options.model_json_schema()
        needed |= own.pop("$defs", {})
        kind = {"const": name, "default": NONE} if name == NONE else {"const": name}
        required = ([] if name == NONE else ["kind"]) + own.get("required", [])
        kinds.append(
            {
                "title": name,
                "description": str(module.__doc__ or "").splitlines()[0],
                "type": "object",
                "properties": {"kind": kind, **own.get("properties", {})},
                "required": required,
                "additionalProperties": False,
            }
        )
    return {"title": "Scale", "description": plain["description"].split("\n")[0], "anyOf": kinds}, needed


def schema_text(document: dict[str, Any]) -> str:
    """The schema as it is published in `docs/batch.schema.json`."""
    return jsonlib.dumps(document, indent=2, ensure_ascii=False) + "\n"
