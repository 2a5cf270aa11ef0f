"""Weights of learned models: which file of which registry package, by sha256. The list is `models/weights.txt`.

A package is installed for one file of it (`make install`), without its dependencies; nothing imports it.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from models.digest import digest_of, sha256_file
from models.errors import DigitizeError, ReasonCode
from models.record import Record
from models.results import ArtifactRef, FileRef
from models.spec import PACKAGE

LIST = "weights.txt"
_COLUMNS = ("name", "package", "version", "file", "sha256", "licence")


class Weights(Record):
    """One line of the list."""

    name: str = Field(pattern="[a-z0-9_.-]+")
    """What a method asks for as `weights:<name>`."""
    package: str
    version: str
    file: str
    """Path of the file as the package's record of installed files has it."""
    sha256: str = Field(pattern="[0-9a-f]{64}")
    licence: str
    """SPDX identifier."""

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.package}=={self.version}"

    @property
    def ref(self) -> ArtifactRef:
        """The file as an input of a stage."""
        return package_ref(f"{PACKAGE}{self.package}/{self.file}", self.sha256)


@cache
def listed() -> dict[str, Weights]:
    """All weights by name. Raises DigitizeError(spec_invalid) with the line of a mistake."""
    return parse(resources.files("models").joinpath(LIST).read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Weights]:
    """The lines of a list: name, package, version, file, sha256, licence, separated by blanks. `#` begins a comment."""
    found: dict[str, Weights] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if len(words) != len(_COLUMNS):
                raise ValueError(f"expected {', '.join(_COLUMNS)}, found {len(words)} words")
            weights = Weights.model_validate(dict(zip(_COLUMNS, words, strict=True)))
            if weights.name in found:
                raise ValueError(f"expected each name once, found '{weights.name}' twice")
        except ValueError as error:
            raise DigitizeError(ReasonCode.SPEC_INVALID, str(error), path=f"{LIST}:{number}") from error
        found[weights.name] = weights
    return found


def package_ref(uri: str, sha256: str) -> ArtifactRef:
    """A file of an installed package as an input: known by its sha256, whether it is on this machine or not.

    Args:
        uri: `package:NAME/FILE`.

    Raises DigitizeError(spec_invalid) for other forms.
    """
    package, _, path = uri.removeprefix(PACKAGE).partition("/")
    if not uri.startswith(PACKAGE) or not package or not path:
        raise DigitizeError(ReasonCode.SPEC_INVALID, f"expected package:NAME/FILE, found '{uri}'")
    files = (FileRef(path=path, sha256=sha256, bytes=0),)
    return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=f"{PACKAGE}{package}", files=files)


def pinned_ref(uri: str, sha256: str) -> ArtifactRef:
    """A file that is given with its sha256 as an input: the same input wherever it lies and whatever it is called.

    Args:
        uri: a path, an `s3://` address or `package:NAME/FILE`.

    Raises DigitizeError(spec_invalid) for `package:` without a file.
    """
    if uri.startswith(PACKAGE):
        ref = package_ref(uri, sha256)
    else:
        ref = ArtifactRef(digest="", uri=uri, files=(FileRef(path=uri.rpartition("/")[2], sha256=sha256, bytes=0),))
    return ref.model_copy(update={"digest": digest_of(sha256)})


def package_file(package: str, path: str, sha256: str) -> Path:
    """The file of an installed package.

    Raises DigitizeError(missing_dependency) when the package or the file is not there, and
    DigitizeError(checksum_mismatch) when it holds other bytes.
    """
    hint = f"`make install` installs what models/{LIST} lists; other packages are yours to install on every node."
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        message = f"expected the package '{package}', found none"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, hint) from error
    found = next((Path(str(each.locate())) for each in files if each.as_posix() == path), None)
    if found is None or not found.is_file():
        message = f"expected {path} in the package '{package}', found none"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, hint)
    if (digest := sha256_file(found)) != sha256:
        message = f"expected sha256 {sha256} in the package '{package}', found {digest}"
        raise DigitizeError(ReasonCode.CHECKSUM_MISMATCH, message, hint, path=path)
    return found
