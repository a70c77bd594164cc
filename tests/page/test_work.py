"""One piece of work at a time, in order, and each of them can be ended."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("ndrnn.app.page.work")

from ndrnn.app.page import work
from ndrnn.app.page.work import Busy, View, Worker


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def over(job, seconds=10):
    end = time.monotonic() + seconds
    while not job.is_over:
        assert time.monotonic() < end
        time.sleep(0.002)
    return job


def test_one_after_the_other_in_order(worker):
    begun, running, most = [], 0, 0

    def act(number):
        def act(job):
            nonlocal running, most
            begun.append(number)
            running += 1
            most = max(most, running)
            time.sleep(0.005)
            running -= 1
            return View({"number": number})

        return act

    jobs = [worker.submit(act(number)) for number in range(6)]
    assert [over(job).view.told["number"] for job in jobs] == begun == list(range(6))
    assert most == 1


def test_what_waits_is_ended_at_once_and_what_runs_at_its_next_report(worker):
    hold, never = threading.Event(), []

    def long(job):
        for step in range(10_000):
            job.report(step / 10_000, f"step {step}", View({"step": step}))
            hold.set()
            time.sleep(0.001)
        return View()

    first = worker.submit(long)
    second = worker.submit(lambda job: never.append(1) or View())
    third = worker.submit(lambda job: View({"third": 3}))
    assert hold.wait(10)
    assert (worker.ahead(first), worker.ahead(second), worker.ahead(third)) == (0, 1, 2)
    worker.cancel(second)
    assert second.state == "cancelled"
    assert worker.ahead(third) == 1
    worker.cancel(first)
    assert over(first).state == "cancelled"
    assert over(third).view.told == {"third": 3}
    assert not never
    # what was found before stays to be seen
    assert first.view.told["step"] >= 0
    assert 0 <= first.share < 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a.png: is empty"), "a.png: is empty"),
        (FloatingPointError("not finite"), "not finite"),
        (MemoryError(), "there is not enough memory for it"),
        (RuntimeError("strange"), "RuntimeError: strange"),
    ],
)
def test_errors_are_told_and_the_next_is_done(worker, error, told, capsys):
    def fail(job):
        raise error

    job, after = worker.submit(fail), worker.submit(lambda job: View({"fine": True}))
    assert (over(job).state, job.error) == ("failed", told)
    assert over(after).state == "done"
    # what nobody foresaw leaves its traceback where the command was started
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, RuntimeError)


def test_too_much_is_refused_and_old_results_are_forgotten(worker):
    hold = threading.Event()
    running = worker.submit(lambda job: hold.wait(10) and View())
    while running.state != "running":
        time.sleep(0.001)
    waiting = [worker.submit(lambda job: View()) for _ in range(work.WAITING)]
    with pytest.raises(Busy, match=f"{work.WAITING} requests are waiting"):
        worker.submit(lambda job: View())
    hold.set()
    over(waiting[-1])
    last = over(worker.submit(lambda job: View({}, {"x": np.zeros(1, np.uint8)})))
    assert worker.find(running.id) is None
    assert worker.find(last.id) is last
    assert len(worker._jobs) <= work.KEPT + 1


def test_work_of_a_page_that_was_closed_is_given_up(worker, monkeypatch):
    monkeypatch.setattr(work, "FORGOTTEN", 0.05)

    def long(job):
        while True:
            job.report(0.5)
            time.sleep(0.005)

    assert over(worker.submit(long)).state == "cancelled"


def test_closing_ends_what_runs():
    worker = Worker()

    def long(job):
        while True:
            job.report(0.5)
            time.sleep(0.001)

    job = worker.submit(long)
    worker.close()
    assert job.state in ("cancelled", "waiting")
    assert not worker._thread.is_alive()
