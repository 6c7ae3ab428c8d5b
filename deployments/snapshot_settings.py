"""Where snapshots may be recovered from, besides those that the shards keep themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

FOLDER_NAME = "snapshots"


def _listed(value: object) -> object:
    """A text of addresses with blanks between them, as environment variables have it, as a list."""
    return value.split() if isinstance(value, str) else value


def _is_prefix(text: str) -> str:
    """A text that says whole servers and folders, so that nothing of it has to be guessed when it is compared."""
    try:
        url = urlsplit(text)
        is_whole = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or not text.isascii() or any(sign in text for sign in "?#@\\"):
        raise ValueError("give http(s)://host, a port and a path if need be, without user, query or fragment")
    return text


class SnapshotSettings(BaseModel):
    """Both on the machine of the router that is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    """Files in it may be recovered by `file://`; None: `snapshots` in the data folder."""
    url_prefixes: Annotated[tuple[Annotated[str, AfterValidator(_is_prefix)], ...], BeforeValidator(_listed)] = ()
    """A router fetches a snapshot from addresses that begin with one of these, and from no other. Scheme, host and port are
    compared whole, the path by its segments.
    """

    def within(self, data_folder: Path) -> Self:
        """With the folder that None stands for."""
        return self if self.folder is not None else self.model_copy(update={"folder": data_folder / FOLDER_NAME})
