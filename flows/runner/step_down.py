"""Smaller settings rather than no result: send a stage again, one step down its method's ladder."""

from __future__ import annotations

from collections.abc import Callable

from models.errors import DigitizeError, ReasonCode
from models.ladder import MOST_STEPS, Ladder, SteppedDown
from models.results import Done, StageRequest
from models.store import Store
from tasks.commit import refer

RunStage = Callable[[StageRequest], Done]
"""Runs one stage, or raises DigitizeError."""


def run_stepping_down(
    ladder: Ladder, asked: StageRequest, store: Store, run_stage: RunStage, say: Callable[[str], None]
) -> Done:
    """Run a stage; when memory, disk or time run out, run it again with smaller settings, `MOST_STEPS` times at most.

    The result is committed under the key of the settings used; the key that was asked for refers to it, so that the
    next run takes it rather than running out again.

    Args:
        say: told about each step, for people.

    Raises the DigitizeError of the last try; it says what was tried before.
    """
    request, because = asked, ReasonCode.OUT_OF_MEMORY
    for steps_left in range(MOST_STEPS, -1, -1):
        try:
            done = run_stage(request)
            break
        except DigitizeError as error:
            lowered = ladder.step_down(request.options, error.code) if steps_left else {}
            if not lowered:
                raise _tried(error, because, asked, request) from error
            request, because = request.model_copy(update={"options": {**request.options, **lowered}}), error.code
            say(f"{error.message}; smaller settings: {SteppedDown.between(because, asked.options, request.options)}")
    return done if request is asked else refer(store, asked, done, because)


def _tried(error: DigitizeError, because: ReasonCode, asked: StageRequest, last: StageRequest) -> DigitizeError:
    if last is not asked:
        error.message += f"; tried with smaller settings: {SteppedDown.between(because, asked.options, last.options)}"
        error.args = (error.message,)
    return error
