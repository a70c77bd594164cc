"""Batches at a time: order, what each thread computes with, errors."""

from __future__ import annotations

import threading

import pytest
import torch

from ndrnn.app.workers import Workers


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def looked_at(part):
    return list(part), threading.current_thread(), torch.get_num_threads()


def test_each_worker_computes_with_a_thread_of_its_own(three_threads):
    with Workers(several=True) as workers:
        parts = [part for batch in (range(7), range(7, 9)) for part in workers.divided(batch)]
        assert [list(part) for part in parts] == [[0, 1], [2, 3], [4, 5, 6], [7, 8]]
        found = list(workers.each(looked_at, parts))
        assert [items for items, _, _ in found] == [list(part) for part in parts]
        assert threading.main_thread() not in {thread for _, thread, _ in found}
        assert {threads for *_, threads in found} == {1}
        # all threads together where there are fewer parts than threads
        assert list(workers.each(looked_at, parts[:2])) == [
            (list(part), threading.main_thread(), 3) for part in parts[:2]
        ]
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_without_several_the_caller_computes(three_threads):
    with Workers() as workers:
        assert workers.divided([1, 2, 3]) == [[1, 2, 3]]
        assert list(workers.each(looked_at, [[1], [2]])) == [
            ([item], threading.main_thread(), 3) for item in (1, 2)
        ]


def test_an_error_ends_what_has_not_begun(three_threads):
    begun = []

    def failing(part):
        begun.append(part)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), Workers(several=True) as workers:
        list(workers.each(failing, [[item] for item in range(1000)]))
    assert len(begun) < 1000
