"""One process of this machine that does tasks: started, asked, ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from inputgrad.errors import UserError
from pipeline import interrupts

Result = TypeVar("Result")

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's malloc.h."""
fresh = False
"""True in a command's own process, which has run nothing of torch: it may be forked, and the workers share its imports.

A process that has used autograd or a GPU must not be forked; its workers are started afresh.
"""


class Killed(Exception):
    """A process ended before it answered."""


class Process:
    def __init__(self, context: BaseContext) -> None:
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=work, args=(theirs,), daemon=True
        )
        # the new process inherits the mask: Ctrl-C, which a terminal sends to everybody, is this process's business
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def ask(self, task: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        """Have a task done; raises what it raises.

        Raises:
            Killed: the process has ended.
        """
        question = pickle.dumps((task, args, kwargs))
        try:
            self.pipe.send_bytes(question)
            answer = self.pipe.recv_bytes()
        except (EOFError, OSError):
            raise Killed from None
        result: Result
        result, error = pickle.loads(answer)
        if error is not None:
            raise error
        return result


def work(pipe: Connection) -> None:
    die_with_parent()
    keep_memory()
    while True:
        try:
            question = pipe.recv_bytes()
        except EOFError:  # its parent has ended
            return
        try:
            task, args, kwargs = pickle.loads(question)
            answer = pickle.dumps((task(*args, **kwargs), None))
        except Exception as error:
            if not isinstance(error, UserError):
                error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            answer = pickle.dumps((None, error))
        pipe.send_bytes(answer)


def keep_memory() -> None:
    """Let a worker keep up to 1 GiB that it has freed: glibc gives every large tensor back, and asks for it again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # another C library has no such function
        for parameter, size in ((M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 1 << 26), (M_MMAP_THRESHOLD, 1 << 30)):
            mallopt(parameter, size)


def start_method() -> BaseContext:
    """How workers are started: forked from a fresh process without a GPU, else each from a clean server."""
    import torch

    multiprocessing.set_forkserver_preload(["torch"])  # once there, not in every process that it starts
    forked = fresh and sys.platform == "linux" and not torch.cuda.is_available()
    return multiprocessing.get_context("fork" if forked else "forkserver")


def die_with_parent() -> None:
    """A worker whose parent has ended, however it ended, ends too instead of working on or waiting for ever."""
    signal.signal(signal.SIGTERM, interrupts.stop)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        interrupts.end_silently()

    threading.Thread(target=watch, daemon=True).start()
