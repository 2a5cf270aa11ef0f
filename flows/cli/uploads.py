"""`uploads`: wait for captures and digitize each once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, reporting

if TYPE_CHECKING:
    from flows.uploads.poller import Poller, Round
    from infra.inbox import Letter


def uploads(
    spec: SpecArgument,
    once: Annotated[bool, typer.Option("--once", help="One round, with what it starts, and the end.")] = False,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="FLOW/NAME", help="Start runs of this Prefect deployment, not here."),
    ] = None,
    letters: Annotated[bool, typer.Option("--letters", help="Show the events that could not be understood.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Read those again, and bring the dead-letter queue's messages back.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Digitize captures as they are uploaded to the places under `captures:`; each content of each once.

    News come from an SQS queue, over HTTP, or from looking; see DIGITIZE_UPLOADS_* in docs/operations.md.
    """
    with reporting("uploads", json, debug) as out:
        stop = threading.Event()
        from flows.uploads.launchers import make_poller

        with make_poller(spec, deployment, stop) as poller:
            if letters or replay:
                _letters(out, spec, poller, replay)
            elif once:
                _once(out, poller)
            else:
                _watch(out, poller, stop)


def _letters(out: Output, spec: SpecArgument, poller: Poller, replay: bool) -> None:
    from flows.uploads.poller import make_inbox
    from infra.queue import Queue, move_all
    from infra.settings import UploadSettings
    from models.spec_yaml import load_spec

    settings = UploadSettings()
    if replay:
        read, left = poller.replay()
        moved = 0
        if settings.queue_url and settings.dead_letter_url:
            moved = move_all(Queue(settings.dead_letter_url, settings), Queue(settings.queue_url, settings))
        out.say(f"{read} letters read, {left} still not understood, {moved} messages back from the dead-letter queue")
        out.document = {"read": read, "left": left, "moved": moved}
        return
    found = make_inbox(load_spec(spec)).letters()
    for letter in found:
        _say_letter(out, letter)
    out.say(f"{len(found)} events that could not be understood")
    out.document = {"letters": [{"id": each.id, "source": each.source, "reason": each.reason} for each in found]}


def _say_letter(out: Output, letter: Letter) -> None:
    import time

    from flows.cli.style import ago, plain

    out.say(plain(f"{letter.id}  {letter.source}  {ago(time.time() - letter.at)}  {letter.reason}"))
    out.say(plain(f"    {letter.body[:200]}", "dim"))


def _once(out: Output, poller: Poller) -> None:
    first, then = poller.round(), poller.finish()
    _say_round(out, first)
    _say_round(out, then)
    out.document = {
        "messages": first.messages,
        "malformed": first.malformed,
        "foreign": first.foreign,
        "waiting": first.waiting,
        "launched": then.launched,
        "errors": first.errors + then.errors,
    }
    if first.errors or then.errors:
        out.exit_code = ExitCode.FAILED


def _watch(out: Output, poller: Poller, stop: threading.Event) -> None:
    from flows.uploads.http import receiving
    from infra.settings import UploadSettings

    settings = UploadSettings()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    out.say("waiting for captures; stop with Ctrl-C")
    if not settings.push_port:
        poller.watch(stop, lambda done: _say_round(out, done))
        return
    token = settings.push_token.get_secret_value() if settings.push_token else ""
    with receiving(settings.push_host, settings.push_port, token, poller.take_pushed) as port:
        out.say(f"events are taken at http://{settings.push_host}:{port}/events/TOKEN")
        poller.watch(stop, lambda done: _say_round(out, done))


def _say_round(out: Output, done: Round) -> None:
    if done.malformed:
        out.say(f"{done.malformed} events could not be understood: --letters shows them", style="yellow")
    for asset, run in done.launched.items():
        out.say(f"{asset}: run {run}", style="green")
    for each in done.errors:
        out.say(each, style="yellow")
