"""Reading ahead and writing behind: order, bounds, errors, and files of threads that do not meet."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ndrnn.app.overlap import ReadAhead
from ndrnn.saving.atomic import replacing, sweep


def waiting(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def test_all_in_order_read_by_one_thread_before_they_are_asked_for():
    threads, read = set(), []

    def reading(item):
        threads.add(threading.current_thread())
        read.append(item)
        return str(item)

    ahead = ReadAhead(range(50), reading, len)
    assert waiting(lambda: len(read) == 50)
    assert list(ahead) == [str(item) for item in range(50)]
    (thread,) = threads
    assert thread is not threading.main_thread()


def test_what_waits_is_bounded_but_one_large_thing_comes_through():
    held = 0

    def reading(item):
        nonlocal held
        held += 1
        return item

    ahead = ReadAhead([4, 4, 4, 30, 4, 4, 4], reading, lambda size: size, room=10)
    stream = iter(ahead)
    assert waiting(lambda: held == 3)
    time.sleep(0.02)
    assert held == 3  # 12 are not below 10
    assert [next(stream) for _ in range(2)] == [4, 4]
    assert waiting(lambda: held == 4)  # 4 and 30
    time.sleep(0.02)
    assert held == 4
    assert list(stream) == [4, 30, 4, 4, 4]
    assert held == 7


def test_an_error_comes_in_its_place_and_the_rest_is_read():
    def reading(item):
        if item == 1:
            raise ImportError("what reads it is not installed")
        return item

    first, error, last = ReadAhead(range(3), reading, lambda _: 1)
    assert (first, last) == (0, 2)
    assert isinstance(error, ImportError)


def test_closing_ends_the_thread():
    ahead = ReadAhead(range(10**9), lambda item: item, lambda _: 1, room=5)
    assert next(iter(ahead)) == 0
    ahead.close()
    ahead._thread.join(30)
    assert not ahead._thread.is_alive()


def test_threads_write_files_of_one_beginning_at_the_same_time(tmp_path):
    meet = threading.Barrier(2, timeout=30)

    def write(number):
        with replacing(tmp_path / f"{'x' * 60}{number}") as temporary:
            temporary.write_text(str(number))
            meet.wait()
            assert temporary.read_text() == str(number)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(2)))
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["0", "1"]


def test_what_a_thread_of_this_process_writes_is_not_swept(tmp_path):
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("whole")
        sweep(tmp_path)
        assert temporary.exists()
    assert (tmp_path / "a").read_text() == "whole"
