"""The proxy that the environment names: kept away from this machine's own servers, named where it does not answer."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

from models.errors import DigitizeError, ReasonCode

_LOCAL = ("localhost", "127.0.0.1", "::1")
_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def configured() -> Iterator[tuple[str, str]]:
    """The variables that name a proxy, with their values, as they are spelt in the environment."""
    for name in _VARIABLES:
        for spelt in (name, name.lower()):
            if value := os.environ.get(spelt):
                yield spelt, value


def bypass_local() -> None:
    """Keep requests to this machine's own servers (Prefect, Ray, a local S3) away from a proxy, which does not know
    them. What the user has set stays.

    Raises DigitizeError(environment) for a SOCKS proxy that this installation cannot use.
    """
    proxies = dict(configured())
    if not proxies:
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    every = ",".join([*hosts, *(host for host in _LOCAL if host not in hosts)])
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*" if "*" in hosts else every
    for name, value in proxies.items():
        if value.lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise DigitizeError(
                ReasonCode.ENVIRONMENT,
                f"expected an HTTP proxy, found {name}={value}, and no package that speaks SOCKS",
                hint=f'Install one (`pip install "httpx[socks]"`), or unset {name}.',
            )


def hint_for(message: str) -> str:
    """What to do about a failed request that went through a proxy; empty where its message speaks of none."""
    if "proxy" not in message.lower():
        return ""
    named = ", ".join(f"{name}={value}" for name, value in configured()) or "the proxy of this machine"
    return f"{named}: correct or unset it, or add the server's host to NO_PROXY."
