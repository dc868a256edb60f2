"""Lock a folder for one process; the operating system releases the lock when the process dies.

The lock is POSIX's, so it holds between the machines that share a folder over NFS. Its file
`.lock` is there while the lock is held; one that a kill left behind is held by nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
import socket
from typing import Iterator

from helper import UserError, log

NAME = ".lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock within this block. Raises UserError with the holder's process and host
    where another process has it."""
    path = folder / NAME
    handle = _locked(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if _is_at(handle, path):
            path.unlink()
        os.close(handle)


def _locked(path: Path) -> int:
    """Open and lock the file at `path`; returns its handle."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(handle, 200).decode(errors="replace") or "another process"
            os.close(handle)
            raise UserError(f"{path.parent}: {holder} trains here; wait for it or stop it, or name "
                            "another folder by -m") from None
        except OSError as error:  # a file system without locks
            log.warning(f"{path}: no lock ({error.strerror}); see to it that nothing else trains "
                        "here")
        if _is_at(handle, path):
            return handle
        os.close(handle)  # its last holder has removed it, and the name is free again


def _is_at(handle: int, path: Path) -> bool:
    """Is the open file the one at `path`?"""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False
