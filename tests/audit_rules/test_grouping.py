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


def test_the_layers_are_named_where_they_are_some_of_several() -> None:
    def extent(*layers: int) -> str:
        wanted = {NAMES[0].replace("*", str(i)) for i in layers}
        hits = [Hit(p, "error", "Odd.") for p in PROGRAM.parameters if p.name in wanted]
        (finding,) = grouped("zeros", hits, PROGRAM)
        return finding.fact

    assert extent(3) == f"Odd. Layer 3 of {L}."
    assert extent(3, 4, 7) == f"Odd. Layers 3-4, 7 of {L}."
    assert extent(*range(L)) == "Odd."
    norm = next(p for p in PROGRAM.parameters if p.layer is None)
    assert [f.fact for f in grouped("zeros", [Hit(norm, "note", "Odd.")], PROGRAM)] == ["Odd."]


def test_messages_that_vary_are_told_by_the_first_and_severities_stay_apart() -> None:
    matrices = [p for p in PROGRAM.parameters if p.name.endswith("c_fc.weight")]
    hits = [Hit(p, "error" if i else "note", f"Std {i}.") for i, p in enumerate(matrices)]

    found = list(grouped("zeros", [*hits, Hit(None, "error", "All.")], PROGRAM))

    assert [(f.severity, f.where) for f in found] == [
        ("error", "*"),
        ("note", matrices[0].name),
        ("error", "transformer.h.*.mlp.c_fc.weight"),
    ]
    assert found[1].fact == f"Std 0. Layer 0 of {L}."
    assert found[2].fact == (
        f"Std 1. (Numbers of {matrices[1].name}; they vary.) Layers 1-{L - 1} of {L}."
    )


def test_without_hits_there_are_no_findings() -> None:
    assert list(grouped("zeros", [], PROGRAM)) == []
