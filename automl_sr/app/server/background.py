"""Work that takes long, in a thread of its own: told step by step, one at a time, and ended when
nobody listens.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

Tell = Callable[[Any], None]
TICK = 0.4
"""Seconds after which the listener is asked whether it is still there."""
_END = object()
# Several at once would take each other's memory, and make the times that are shown worthless.
_turn = threading.Lock()


class Stopped(Exception):  # noqa: N818 - what happened
    """Nobody listens any more; raised where the work next tells something."""


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def run_in_background(work: Callable[[Tell], None]) -> Iterator[Any]:
    """Do work in a thread and give what it tells, or None where there is nothing new; raises what
    the work raises.

    Where the iterator is closed, the work ends at the next thing that it tells.
    """
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    gone = threading.Event()

    def tell(item: Any) -> None:
        if gone.is_set():
            raise Stopped
        told.put(item)

    threading.Thread(target=_do, args=(work, tell, told, gone), daemon=True).start()
    try:
        while True:
            try:
                item = told.get(timeout=TICK)
            except queue.Empty:
                yield None
                continue
            if item is _END:
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        gone.set()


def _do(
    work: Callable[[Tell], None],
    tell: Tell,
    told: queue.SimpleQueue[Any],
    gone: threading.Event,
) -> None:
    while not _turn.acquire(timeout=TICK):
        if gone.is_set():
            return
    try:
        if not gone.is_set():
            work(tell)
        told.put(_END)
    except Stopped:
        pass
    except BaseException as error:  # noqa: BLE001 - it is raised again where somebody listens
        told.put(_Failed(error))
    finally:
        _turn.release()
