"""Benchmarks answer to their names, and what they compute is right on small things."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.profiles import make_profile, with_value

from benchmarks import __main__ as names
from benchmarks import agreement, cost, gpu
from gptinit.gate.student_t import student_quantile


@pytest.mark.parametrize("argv", [[], ["sped"]])
def test_without_a_known_name_the_names_are_said(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = names.main(argv)

    assert code == 2
    assert (
        "one of speed, probes, cost, agreement, engines, theory, shapes, gpu, transformers, "
        "unchanged, real-code." in capsys.readouterr().err
    )


def test_a_benchmark_without_options_refuses_them(capsys: pytest.CaptureFixture[str]) -> None:
    code = names.main(["cost", "--fast"])

    assert code == 2
    assert "takes no options, got --fast" in capsys.readouterr().err


def test_no_gpu_is_one_line_and_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    code = names.main(["gpu"])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.splitlines() == [
        "this benchmark needs a CUDA device; --device cpu makes a dry run."
    ]


@pytest.mark.slow
def test_the_dry_run_of_the_gpu_benchmark_exercises_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.gpu.alternate", lambda jobs, rounds: dict.fromkeys(jobs, 1.0))

    code = gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])

    table = (tmp_path / "gpu.txt").read_text(encoding="utf-8")
    entries = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert code == 0, table
    assert capsys.readouterr().out.strip() == table.strip()
    assert "FAILED" not in table
    parts = {entry["kind"] for entry in entries}
    assert parts == {
        "device", "case", "engines", "waits", "probes", "draws", "cpu", "differences",
        "agreement", "costs", "large", "tests",
    }  # fmt: skip
    # 2 models x 3 engines x 2 dtypes x 2 kinds of passes
    assert sum(entry["kind"] == "case" for entry in entries) == 24
    # On one device both engines compute the same.
    assert {entry["gap"] for entry in entries if entry["kind"] == "engines"} == {0}


def test_a_part_that_fails_leaves_the_others_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("broken here")

    for part in ("_time", "_waits", "_overhead", "_large", "_report_agreement"):
        monkeypatch.setattr(gpu, part, fail)
    monkeypatch.setattr("benchmarks.gpu._tests", lambda report: report.line("tests ran"))

    code = gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])

    table = (tmp_path / "gpu.txt").read_text(encoding="utf-8")
    assert code == 1
    assert "FAILED: RuntimeError: broken here" in table
    assert "tests ran" in table


def test_the_plan_of_the_gpu_has_every_combination() -> None:
    plan = gpu.plan_for("cuda", quick=False)

    cases = plan.cases()

    # 2 models x 3 engines x 2 dtypes x 2 kinds of passes x 2 lengths
    assert len(set(cases)) == len(cases) == 48
    assert [c.n_layer for c in plan.models.values()] == [48, 48]
    assert [c.n_embd for c in plan.models.values()] == [768, 1600]
    assert len(gpu.plan_for("cuda", quick=True).cases()) == 12


def test_differences_are_standard_errors_of_both_sides_together() -> None:
    one = make_profile()
    moved = with_value(one, "final", "loss", 7.0, 0.03)
    moved = with_value(moved, "layer 3", "logit_std", 0.16 * math.e, 0.016 * math.e)

    found = {(d.where, d.stat): d for d in agreement.differences(moved, one)}

    # loss: 6.92 +- 0.0692 and 7.00 +- 0.03
    loss = found["final", "loss"]
    assert loss.z == pytest.approx(0.08 / math.hypot(0.0692, 0.03))
    # Welch: (s1^2 + s2^2)^2 / (s1^4/5 + s2^4/5) of s1 = 0.0692, s2 = 0.03 is 6.81
    assert loss.dof == 6
    # logit_std is averaged as logarithms: their means are 1 apart, errors 0.01 and 0.1
    logit = found["layer 3", "logit_std"]
    assert logit.z == pytest.approx(1 / math.hypot(0.01, 0.1))
    assert found["embedding", "resid_var"].z == 0
    assert {where for where, _ in found} == {"embedding", "layer 3", "final"}
    assert ("embedding", "nonfinite") not in found  # 0 in both, without noise


def test_what_has_no_noise_and_differs_is_infinitely_far() -> None:
    one = make_profile()
    moved = with_value(one, "final", "nonfinite", 1.0, 0.0)

    found = {(d.where, d.stat): d for d in agreement.differences(moved, one)}

    assert found["final", "nonfinite"].z == math.inf
    assert agreement.rejected(list(found.values())) == (found["final", "nonfinite"],)


def difference(z: float, dof: int = 10) -> agreement.Difference:
    return agreement.Difference(where="final", stat="loss", z=z, dof=dof, relative=0.0)


def test_rejection_steps_down_as_holm_does() -> None:
    # Of three tests at 0.01, the smallest p is held to 0.01/3, the next to 0.01/2, then to 0.01.
    first, second, third = (student_quantile(0.01 / n / 2, 10) for n in (3, 2, 1))
    e = 1e-6

    cases = [
        ([first - e, second + e, third + e], 0),
        ([first + e, second - e, third - e], 1),
        ([first + e, -second - e, third - e], 2),
        ([first + e, second + e, third + e], 3),
    ]

    for zs, count in cases:
        assert len(agreement.rejected([difference(z) for z in zs])) == count, zs
    assert agreement.rejected([]) == ()


def test_the_largest_gap_is_zero_only_for_bitwise_equal_values() -> None:
    one = make_profile()

    assert agreement.largest_gap(one, make_profile()) == 0
    assert agreement.largest_gap(
        with_value(one, "layer 1", "resid_var", 0.003 * 1.5, 0.0), one
    ) == pytest.approx(0.5)


def test_exponents_of_power_laws_are_exact() -> None:
    sizes = [6, 12, 24, 48]

    assert cost.growth_exponent(sizes, [3.0 * n**1.7 for n in sizes]) == pytest.approx(1.7)


def test_references_are_held_to_joint_standard_errors() -> None:
    reference = agreement.Reference(scheme="plain", n_layer=12, value=2.0, stderr=0.3)

    near = agreement._row("12 layers plain", reference, {"resid_var": 2.5}, {"resid_var": 0.4})
    far = agreement._row("12 layers plain", reference, {"resid_var": 4.6}, {"resid_var": 0.4})

    assert near.endswith(" 1.00")
    assert far.endswith(" 5.20  <-- beyond 3")


def test_a_case_of_the_plan_names_its_settings() -> None:
    case = gpu.Case(model="48 x 768", engine="dense", dtype="float32", grad=False, seq_len=256)

    assert str(replace(case, grad=True)) == "48 x 768   dense  float32  both      256"
