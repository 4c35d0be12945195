"""Ctrl-C and SIGTERM end a command at any moment: one line on stderr, exit code 130, no process left behind.

The first signal raises KeyboardInterrupt in the main thread, so that every block is left as by any exception. That is
not enough, since Python and its libraries lose such an exception now and then:

- a module that is being imported swallows it or makes an ImportError of it: there the process ends at once;
- in `__del__`, a callback or a function of `atexit`, Python prints "Exception ignored" and goes on: it ends at once;
- a library catches everything, or waits in C code: a thread ends the process after a while;
- a command that has come to its end all the same, or to another error, has still been told to stop: 130.

Only when all that is left is the interpreter's own end, every result being published, a signal changes nothing more.
Standard library only, and little of it: this is imported before everything else.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from sys import UnraisableHookArgs

CODE = 130
LINE = "stopped; the same command continues where it was"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CPU_SECONDS, SECONDS = 10.0, 60.0
"""How much the blocks that are being left may compute, and how long they may take: a busy machine is waited for."""
AGAIN = 1.0
"""Seconds after which a second signal ends the process at once; a terminal and a parent may both send the first."""

at_end: list[Callable[[], object]] = []
"""What to do at the end where blocks were not left in order; each must be quick and may fail."""
code: int | None = None
"""The exit code of a command that has come to its end: it then ends at once, and saves the interpreter's own second."""
noted: float | None = None
"""When the first signal came."""

_main = _thread_of_main = 0
_held = _late = _said = False


def install() -> None:
    """From now on; in a command's own process, from its main thread.

    A shell without job control starts background jobs with SIGINT ignored: they, too, are to end.
    """
    global _main, _thread_of_main
    _main, _thread_of_main = os.getpid(), _thread.get_ident()
    for number in SIGNALS:
        signal.signal(number, stop)
    import atexit

    sys.unraisablehook, sys.excepthook = _unraisable, _uncaught
    atexit.register(_leave)  # the first that is registered is the last that is called


def stop(number: int, frame: FrameType | None) -> None:
    """The handler of both signals, in the main thread.

    Raises:
        KeyboardInterrupt: once.
    """
    global noted, _late
    if os.getpid() != _main:  # a worker: its parent has the say
        end_silently()
    if noted is not None:
        if time.monotonic() - noted > AGAIN:
            end()
        return
    noted = time.monotonic()
    if _is_importing(frame):
        end()
    _thread.start_new_thread(_watch, ())  # a threading.Thread takes locks that the interrupted code may hold
    _late = _held
    if not _held:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let a signal wait for the end of a block that must be short: something is started and has to be remembered."""
    global _held, _late
    _held = True
    try:
        yield
    finally:
        _held = False
    if _late:
        _late = False
        raise KeyboardInterrupt


def end() -> NoReturn:
    """End this process, from wherever it is: clean up, say the line, exit with 130."""
    global _said
    try:
        for action in (*reversed(at_end), _end_children, _remove_temporaries, _flush):
            with suppress(Exception):
                action()
        if not _said:
            _said = True
            terminal = "\x1b[?25h\n" if os.isatty(2) else ""  # a progress display hides the cursor; ^C is on this line
            with suppress(OSError):
                os.write(2, f"{terminal}error: {LINE}\n".encode())
    finally:
        os._exit(CODE)


def end_silently() -> NoReturn:
    """End a worker without a word and without a half-written file."""
    with suppress(Exception):
        _remove_temporaries()
    os._exit(CODE)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch() -> None:
    """End the process if the main thread does not: the exception was swallowed, or never got through."""
    cpu, wall = time.process_time(), time.monotonic()
    while time.process_time() - cpu < CPU_SECONDS and time.monotonic() - wall < SECONDS:
        time.sleep(0.1)
    end()


def end_processes(processes: Iterable[BaseProcess]) -> None:
    """End workers: at first so that they remove their temporary files; one that computes in C code does not hear it."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + 1
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        process.kill()
        process.join()


def _end_children() -> None:
    if (module := sys.modules.get("multiprocessing")) is not None:
        end_processes(module.active_children())


def _remove_temporaries() -> None:
    if (module := sys.modules.get("inputgrad.files")) is not None:
        for path in tuple(module.temporaries):
            module.remove(path)


def _flush() -> None:
    if _thread.get_ident() == _thread_of_main:  # another thread might wait for the main one here
        sys.stdout.flush()


def _unraisable(args: UnraisableHookArgs) -> None:
    if noted is None:
        sys.__unraisablehook__(args)
    elif args.exc_type is KeyboardInterrupt:
        end()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if noted is not None:
        end()
    sys.__excepthook__(kind, error, trace)


def _leave() -> None:
    """All functions of `atexit` have been called. What is published is published: the exit code says how that went."""
    if os.getpid() != _main:
        return
    if noted is not None:
        end()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
