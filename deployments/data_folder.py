"""The data folder: what makes a folder Shoal's, and that one cluster at a time works on it.

`shoal.json` says the format and who the cluster and the node are; it is written once, last, into a folder that was
empty. `lock` is held with flock by the cluster's guardian: `lock_folder` takes it, the guardian inherits the open file,
and the kernel lets go when the guardian ends, however it ends. `run/run.json` is a note about the cluster that runs, or
that ran and was not ended by `down`; the lock, not the note, decides whether one runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from deployments.processes import ProcessId, wait_until
from shards.disk import TEMPORARY_SUFFIX, make_folder, rename_durably, write_durably
from shards.errors import Conflict, Corrupt, InvalidRequest

FORMAT = 1
IDENTITY_FILE = "shoal.json"
LOCK_FILE = "lock"
SECRET_FILE = "secret"  # noqa: S105 (a file's name)
SECRET_BYTES = 32
RUN_FILE = "run/run.json"
LOG_FILE = "logs/cluster.log"
BEFORE_IDENTITY = frozenset({LOCK_FILE, IDENTITY_FILE + TEMPORARY_SUFFIX, "lost+found"})
"""What may lie in a folder that is not Shoal's yet: what a first `up` that was cut short left, a fresh disk's folder."""

LOCK_PATIENCE_S = 0.5
"""`is_locked` holds the lock for an instant, and that is no reason to refuse an `up`."""


@dataclass(frozen=True)
class DataFolder:
    """A folder that is Shoal's, and the ids that it has given to its cluster and node."""

    path: Path
    cluster_id: str
    node_id: str

    @property
    def log_file(self) -> Path:
        return self.path / LOG_FILE

    @property
    def secret_file(self) -> Path:
        """Holds what the data plane's two ends prove to each other that they know, in hex; for its owner's eyes only."""
        return self.path / SECRET_FILE


@dataclass(frozen=True)
class RunInfo:
    """A running cluster: its guardian, where it answers, its short-lived folder (sockets, Ray's files and logs)."""

    guardian: ProcessId
    url: str
    run_folder: Path
    log_file: Path

    @property
    def pid(self) -> int:
        return self.guardian.pid


def lock_folder(path: Path) -> int:
    """Make the folder if it is missing, and lock it: the open file that holds the lock.

    Raises Conflict if a cluster runs on it, InvalidRequest if it can't be made or is not Shoal's to use.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        _check_ours(path)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidRequest(f"the data folder {path} can't be used: {error.strerror or error}") from None
    if wait_until(lambda: _try_lock(lock, fcntl.LOCK_EX), LOCK_PATIENCE_S):
        return lock
    os.close(lock)
    running = read_run_info(path)
    who = f" (pid {running.pid}, {running.url})" if running else ""
    raise Conflict(f"a cluster already runs on {path}{who}; `shoal down` ends it")


def is_locked(path: Path) -> bool:
    """Whether a cluster runs on the folder now, or is being started or ended."""
    try:
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InvalidRequest(f"{path / LOCK_FILE} can't be read: {error.strerror}") from None
    try:
        return not _try_lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


@contextmanager
def held_still(path: Path) -> Iterator[None]:
    """Inside, no cluster starts on the folder. Makes nothing. Raises Conflict if one runs on it already."""
    try:
        lock = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise InvalidRequest(f"{path / LOCK_FILE} can't be read: {error.strerror}") from None
    try:
        if not wait_until(lambda: _try_lock(lock, fcntl.LOCK_SH), LOCK_PATIENCE_S):
            raise Conflict(f"a cluster runs on {path}, and changes its files; `shoal down` ends it, then repeat")
        yield
    finally:
        os.close(lock)


def open_folder(path: Path) -> DataFolder:
    """The folder's identity, made if it is new. The caller holds the lock.

    Raises Conflict for another format, Corrupt for an identity that can't be read.
    """
    file = path / IDENTITY_FILE
    if not file.exists():
        identity = {"format": FORMAT, "cluster_id": uuid4().hex, "node_id": uuid4().hex}
        make_folder(path)
        write_durably(file, json.dumps(identity, indent=1).encode())
    found = read_identity(file)
    _make_secret(path / SECRET_FILE)
    for folder in (path / RUN_FILE, path / LOG_FILE):
        folder.parent.mkdir(exist_ok=True)
    return DataFolder(path, found["cluster_id"], found["node_id"])


def write_run_info(path: Path, info: RunInfo) -> None:
    """Leave the note, for `down`, `status` and a second `up`."""
    note = {**asdict(info), "run_folder": str(info.run_folder), "log_file": str(info.log_file)}
    write_durably(path / RUN_FILE, json.dumps(note, indent=1).encode())


def read_run_info(path: Path) -> RunInfo | None:
    """The note about the cluster that runs, or was not ended cleanly. None if there is none, or none that can be read."""
    try:
        note = json.loads((path / RUN_FILE).read_bytes())
        return RunInfo(ProcessId(**note["guardian"]), note["url"], Path(note["run_folder"]), Path(note["log_file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_run(path: Path) -> None:
    """Remove the note and the run's folder. Only when none of its processes is left."""
    info = read_run_info(path)
    if info is not None:
        shutil.rmtree(info.run_folder, ignore_errors=True)
    (path / RUN_FILE).unlink(missing_ok=True)


def _make_secret(file: Path) -> None:
    """One that was lost is made anew: it joins the processes of one run, and nothing on disk depends on it."""
    if not file.exists():
        temporary = file.with_name(SECRET_FILE + TEMPORARY_SUFFIX)
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_hex(SECRET_BYTES))
        rename_durably(temporary, file)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_ours(path: Path) -> None:
    if (path / IDENTITY_FILE).exists():
        return
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in BEFORE_IDENTITY)
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise InvalidRequest(
            f"{path} is not empty and not a Shoal data folder ({shown}; no {IDENTITY_FILE}); choose another folder"
        )


def read_identity(file: Path) -> dict[str, str]:
    """What shoal.json says. Raises InvalidRequest, Corrupt, or Conflict for another format, naming the file."""
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{file} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise Corrupt(f"{file} is damaged: {error}; restore it from a copy") from None
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise Corrupt(f"{file} is damaged: it has no format number; restore it from a copy")
    if found["format"] != FORMAT:
        raise Conflict(
            f"{file} has format {found['format']}, this version of Shoal reads format {FORMAT}; "
            "use the version that wrote it"
        )
    if not all(isinstance(found.get(name), str) and found[name] for name in ("cluster_id", "node_id")):
        raise Corrupt(f"{file} is damaged: cluster_id or node_id is missing; restore it from a copy")
    return found
