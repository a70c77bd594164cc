"""A rehearsal of ``python -m benchmarks.gpu``: every section with tiny sizes, under Triton's interpreter. No time is asserted."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import conformance, models, scans
from benchmarks.gpu.run import Run


def run_in(folder: Path) -> Run:
    return Run(folder / "rows.jsonl", time.monotonic() + 600, True, folder)


def test_sections_fit_into_eight_minutes() -> None:
    assert sum(section.seconds for section in command.SECTIONS.values()) <= 480


def test_a_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.add(one=1, name="µ")
    run.add(two=2.5)
    assert [json.loads(line) for line in run.rows.read_text().splitlines()] == [
        {"one": 1, "name": "µ"},
        {"two": 2.5},
    ]


def test_a_peer_that_fails_is_a_finding(tmp_path: Path) -> None:
    def fail() -> object:
        raise ValueError("no such kernel\nand more")

    assert run_in(tmp_path).attempt(lambda: fail) == "ValueError: no such kernel"


def test_errors_of_points_and_of_images() -> None:
    # of two images of two points: all right; one right, and the mean of the log-probabilities wrong
    logits = torch.tensor([[[5.0, 0.0], [5.0, 0.0]], [[0.0, 1.0], [9.0, 0.0]]])
    found = models.errors(lambda some: logits, torch.zeros(2, 2), torch.tensor([0, 1]))
    assert found == {"point error": 0.25, "sample error": 0.5}


STUB = """
import sys, time
from pathlib import Path
rows = Path(sys.argv[sys.argv.index("--rows") + 1])
rows.write_text('{"row": 1}\\n')
{rest}
"""


@pytest.mark.parametrize(
    ("rest", "ended"),
    [
        ("", "well"),
        ("raise SystemExit('the device is lost')", "with 1: the device is lost"),
        ("time.sleep(60)", "stopped after"),
    ],
    ids=["ends", "fails", "hangs"],
)
def test_what_a_section_found_outlives_it(
    rest: str, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "python"
    stub.write_text(f"#!{sys.executable}" + STUB.replace("{rest}", rest))
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setattr(command, "GRACE", 1)
    options = argparse.Namespace(tiny=False, data=tmp_path)
    outcome = command.outcome_of("scans", 1, options, tmp_path / "rows.jsonl")
    assert outcome["ended"].startswith(ended)
    assert outcome["rows"] == [{"row": 1}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"passed": False, "output": "F\n1 failed, 9 passed"}, "the tests did not pass (1 failed, 9 passed)"),
        ({"passed": False, "output": ""}, "the tests did not pass (False)"),
        ({"passed": "not all in time", "output": ""}, "the tests did not pass (not all in time)"),
        (
            {"workload": "MDLSTM", "dtype": "float32", "agrees": "y is 0.3 off"},
            "MDLSTM, float32: y is 0.3 off",
        ),
        (
            {"workload": "MDLSTM", "sweep": "fronts", "agrees": "yes", "repeats": False},
            "MDLSTM, fronts: two runs gave different bits",
        ),
        ({"images": [1, 4, 4, 1], "finite": False}, "images [1, 4, 4, 1] are not finite"),
        ({"workload": "MDLSTM", "failed": "TypeError: no"}, "MDLSTM: TypeError: no"),
    ],
    ids=["failed", "broken", "late", "disagrees", "differs", "infinite", "raises"],
)
def test_a_section_in_which_something_is_wrong_does_not_end_well(
    row: dict[str, object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = (
        json.dumps({"passed": True, "agrees": "yes", "repeats": True, "wavefront": "RuntimeError: no"}) + "\n"
    )
    stub = tmp_path / "python"
    stub.write_text(
        f"#!{sys.executable}\nimport sys\nrows = sys.argv[sys.argv.index('--rows') + 1]\nopen(rows, 'w').write({rows!r})\n"
    )
    stub.chmod(0o755)
    arguments = ["--tiny", "--json", str(tmp_path / "results.json"), "--only", "conformance"]
    monkeypatch.setattr(sys, "executable", str(stub))
    assert command.main(arguments) == 0
    assert "ended well; 1 rows, 0 of them left out" in capsys.readouterr().err
    stub.write_text(stub.read_text().replace(repr(rows), repr(rows + json.dumps(row) + "\n")))
    assert command.main(arguments) == 1
    assert f"ended with something wrong: {said}; 2 rows" in capsys.readouterr().err


def test_conformance_tells_what_pytest_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real pytest, beside an installed plugin of the name of pytest-benchmark's, which ends the run if it is loaded."""
    installed = tmp_path / "plugin-1.dist-info"
    (tmp_path / "tests/scan").mkdir(parents=True)
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nbenchmark = warns\n")
    (tmp_path / "warns.py").write_text("def pytest_configure():\n    raise UserWarning('loaded')\n")
    tests = "def test_strips_wait_1() -> None: pass\ndef test_strips_wait_2() -> None: assert 1 == 2\n"
    (tmp_path / "tests/scan/test_triton.py").write_text(tests)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    run = run_in(tmp_path)
    conformance.conformance(run)
    (row,) = [json.loads(line) for line in run.rows.read_text().splitlines()]
    assert row["passed"] is False
    assert "1 failed, 1 passed" in command.faults([row])[0]


def test_a_layer_that_does_not_compile_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rows go on: inference fails here, training does not."""

    def step_of(layer: object, x: object, training: bool) -> object:
        def call() -> None:
            if not training:
                raise TypeError("indices must be integers\nand more")

        return call

    monkeypatch.setattr(scans, "step_of", step_of)
    monkeypatch.setattr(torch, "compile", lambda layer, **options: layer)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    run = run_in(tmp_path)
    scans.compiled(run)
    first, second = [json.loads(line) for line in run.rows.read_text().splitlines()]
    assert first["failed"] == "TypeError: indices must be integers"
    assert "wavefront_compiled" in second
    assert len(command.faults([first, second])) == 1


def test_chosen_sections_share_all_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def outcome(name: str, seconds: float, *rest: object) -> dict[str, object]:
        given.append(seconds)
        return {"ended": "well", "rows": []}

    monkeypatch.setattr(command, "outcome_of", outcome)
    arguments = ["--tiny", "--json", str(tmp_path / "results.json"), "--seconds", "400"]
    assert command.main([*arguments, "--only", "wide", "--only", "sampling"]) == 0
    wide, sampling = (command.SECTIONS[name].seconds for name in ("wide", "sampling"))
    assert given[0] == pytest.approx(400 * wide / (wide + sampling))
    given.clear()
    assert command.main([*arguments, "--seconds", "10000", "--only", "wide"]) == 0
    assert given[0] == pytest.approx(10000, abs=60)
    given.clear()
    assert command.main([*arguments, "--seconds", "20", "--only", "wide"]) == 0
    assert given[0] <= 20


def test_others_go_on_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen = tmp_path / "results.json", []

    def outcome(name: str, *rest: object) -> dict[str, object]:
        seen.append((name, target.exists() and list(json.loads(target.read_text())["sections"])))
        return {"ended": "with 1: lost" if name == "scans" else "well", "rows": [{"row": name}]}

    monkeypatch.setattr(command, "outcome_of", outcome)
    arguments = ["--tiny", "--json", str(target), "--only", "scans", "--only", "sampling", "--only", "digits"]
    assert command.main(arguments) == 1
    # each found the results of those before it in the file
    assert seen == [("scans", False), ("sampling", ["scans"]), ("digits", ["scans", "sampling"])]
    kept = json.loads(target.read_text())["sections"]
    assert kept["scans"] == {"ended": "with 1: lost", "rows": [{"row": "scans"}]}
    assert kept["digits"]["ended"] == "well"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_rehearsal(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    assert command.main(["--tiny", "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    sections = found["sections"]
    assert list(sections) == list(command.SECTIONS)
    assert sections["conformance"]["rows"][0]["passed"] is True
    scans = sections["scans"]["rows"]
    assert [row["agrees"] for row in scans if "agrees" in row] == ["yes", "yes"]
    timed = [row for row in scans if "ours" in row]
    assert len(timed) == 4
    assert all(isinstance(row[name], float) for row in timed for name in ("ours", "wavefront"))
    assert sum("cudnn" in row for row in timed) == 2  # the sequence, both ways
    assert {row["backend"] for row in sections["ride step"]["rows"]} == {"triton", "wavefront"}
    wide = sections["wide"]["rows"]
    assert [(row["agrees"], row["repeats"]) for row in wide if "agrees" in row] == [("yes", True)] * 3
    shares = [(row["sweep"], row["training"]) for row in wide if "share" in row and "sweep" in row]
    assert shares[:4] == [(name, training) for name in ("strips", "fronts") for training in (False, True)]
    assert shares[4:] == [
        (name, training) for training in (False, True) for name in ("auto", "fronts", "strips", "cudnn")
    ]
    variants = [(row["variant"], row["training"]) for row in wide if "variant" in row and "share" in row]
    assert variants == [
        (name, training) for name in ("strips back", "one group of samples") for training in (False, True)
    ]
    sampled = sections["sampling"]["rows"]
    assert [(row["graph"], row["finite"]) for row in sampled] == [(True, True), (False, True)] * 2
    assert [row["pass"] for row in sections["digits"]["rows"]] == [1, 2]
    assert [row["training"] for row in sections["compiled"]["rows"]] == [False, True]
