"""Hits of one rule into findings: one cause, one finding, with all its places."""

from support.programs import L, gpt2

from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.results.profile import Finding

PROGRAM = gpt2()
NAMES = ("transformer.h.*.attn.c_attn.weight", "transformer.h.*.attn.c_proj.weight")


def findings(cause: object, *, layers: range = range(L), said: str = "Odd.") -> list[Finding]:
    """The findings of hits on two matrices of some layers."""
    wanted = {name.replace("*", str(i)) for name in NAMES for i in layers}
    hits = [Hit(p, "error", said, cause) for p in PROGRAM.parameters if p.name in wanted]
    return list(grouped("zeros", hits, PROGRAM))


def test_without_a_cause_each_name_is_a_finding() -> None:
    assert [(f.where, f.also) for f in findings(None)] == [(name, ()) for name in NAMES]


def test_one_cause_is_one_finding_with_its_places() -> None:
    (finding,) = findings("the same")

    assert finding.places == NAMES
    assert finding.fact == f"Odd. The same goes for {NAMES[1]}."


def test_a_single_parameter_among_the_places_is_named_itself() -> None:
    (finding,) = findings("the same", layers=range(1))

    assert finding.places == tuple(name.replace("*", "0") for name in NAMES)


def test_many_places_are_counted() -> None:
    hits = [Hit(p, "note", "Odd.", "all") for p in PROGRAM.parameters]

    (finding,) = grouped("zeros", hits, PROGRAM)

    shown = ", ".join(finding.also[:3])
    assert finding.fact == f"Odd. The same goes for {shown} and {len(finding.also) - 3} more."
