"""Ctrl-C and SIGTERM as a request: the first is noted, the second does what it always did."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, `pending` is the first SIGINT or SIGTERM received, else None.

    A second one of either kind gets the handler that was there before, at once. Signals that were ignored
    (a job in the background) stay ignored. Off the main thread, where Python takes no signals, nothing is
    changed.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.pending: int | None = None
        self._enabled = enabled
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if self._enabled and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # None: a handler that C code installed and that Python could not put back.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending is None:
            self.pending = number
            return
        self._give_back()
        os.kill(os.getpid(), number)

    def _give_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
