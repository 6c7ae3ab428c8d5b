"""Where snapshots may be recovered from, besides those that the shards keep themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

FOLDER_NAME = "snapshots"


def _listed(value: object) -> object:
    """A text of addresses with blanks between them, as environment variables have it, as a list."""
    return value.split() if isinstance(value, str) else value


class SnapshotSettings(BaseModel):
    """Both on the machine of the router that is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    """Files in it may be recovered by `file://`; None: `snapshots` in the data folder."""
    url_prefixes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """A router fetches a snapshot from addresses that begin with one of these, and from no other."""

    def within(self, data_folder: Path) -> Self:
        """With the folder that None stands for."""
        return self if self.folder is not None else self.model_copy(update={"folder": data_folder / FOLDER_NAME})
