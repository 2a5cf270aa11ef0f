"""One message to whoever is on duty, through any service that Apprise knows."""

from __future__ import annotations

import logging
from typing import Literal

from infra.settings import NightSettings

_log = logging.getLogger("digitize.notify")


def notify(settings: NightSettings, title: str, body: str, level: Literal["success", "failure", "info"]) -> bool:
    """Send a message to `DIGITIZE_NOTIFY_URL`. False when there is no address or nobody took it.

    Never raises, and never logs the address, which holds a secret: a night's result does not hang on a chat server.
    """
    if settings.notify_url is None:
        return False
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log addresses with their tokens
    sender = apprise.Apprise()
    if not sender.add(settings.notify_url.get_secret_value()):
        _log.warning("DIGITIZE_NOTIFY_URL: expected an Apprise URL such as slack://..., found another form")
        return False
    try:
        taken = bool(sender.notify(title=title, body=body, notify_type=apprise.NotifyType(level)))
    except Exception as error:  # whatever a plugin for some service raises
        _log.warning("the notification failed: %s", type(error).__name__)
        return False
    if not taken:
        _log.warning("nobody took the notification")
    return taken
