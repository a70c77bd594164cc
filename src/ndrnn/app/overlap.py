"""Reading ahead, in a thread: decoders and the disk do not keep the interpreter from computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

ROOM = 64 * 2**20
"""Bytes that are read ahead; a single large file may be more."""


class ReadAhead(Generic[Item, Found]):
    """Iterates over what ``read`` makes of items, or the exception that it raises, in order.

    Items are read one after the other, by a thread, until those that wait are larger than there is room. Whoever does not
    take all of them calls :meth:`close`.

    Args:
        items: what is read.
        read: makes something of an item; it is called in the thread alone.
        size: of what it makes, in bytes.
        room: for what waits.
    """

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[Item], Found],
        size: Callable[[Found], int],
        room: int = ROOM,
    ) -> None:
        self._items = items
        self._read = read
        self._size = size
        self._room = room
        self._waiting: deque[tuple[Found | BaseException, int]] = deque()
        self._held = 0
        self._closed = False
        self._changed = Condition()
        # a daemon: a program that is interrupted does not wait for a slow disk
        self._thread = Thread(target=self._work, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Found | BaseException]:
        for _ in self._items:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                found, size = self._waiting.popleft()
                self._held -= size
                self._changed.notify()
            yield found
            del found  # or it would stay in memory beside the next

    def close(self) -> None:
        """Read no further."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        for item in self._items:
            found: Found | BaseException
            try:
                found = self._read(item)
                size = self._size(found)
            except BaseException as error:
                found, size = error, 0
            with self._changed:
                self._waiting.append((found, size))
                self._held += size
                del found
                self._changed.notify()
                self._changed.wait_for(lambda: self._closed or not self._waiting or self._held < self._room)
                if self._closed:
                    return
