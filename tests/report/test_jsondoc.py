"""Documents against their schemas, their keys and what they leave out."""

import json
import math
from dataclasses import replace
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError
from support.profiles import make_profile
from support.report_profiles import bound_result, small_comparison, small_profile, small_report
from support.schemas import SCHEMAS, load_schema, validate

import gptinit
from gptinit.config import GPTConfig
from gptinit.facts.distributions import Constant, Normal
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.facts.vocabulary import ROLES, STATISTICS, PlaceKind
from gptinit.gate.judge import CheckReport
from gptinit.report.jsondoc import (
    check_document,
    comparison_document,
    profile_document,
    render_json,
    schemes_document,
)
from gptinit.results.profile import Cost, Place, WeightGrad


def _values() -> dict[str, dict[str, tuple[Normal | Constant, ...]]]:
    return {"nanogpt": {"q": (Normal(0.0, 0.02),), "attn_out": (Normal(0.0, 0.1), Constant(0.0))}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_valid_schema_with_its_file_as_id(name: str) -> None:
    schema = load_schema(name)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"{name}.schema.json"


def test_the_schema_has_every_statistic_with_its_definition_and_unit() -> None:
    described = load_schema("profile")["$defs"]["statistics"]["$defs"]

    assert list(described) == list(STATISTICS)
    for name, statistic in STATISTICS.items():
        assert described[name]["description"] == f"{statistic.definition} [{statistic.unit}]"


@pytest.mark.parametrize("place", get_args(PlaceKind))
def test_the_schema_has_the_statistics_of_every_place(place: str) -> None:
    schema = load_schema("profile")["$defs"]

    stats = [s.name for s in STATISTICS.values() if place in s.places]
    assert list(schema[f"{place}_numbers"]["properties"]) == stats
    assert schema[f"{place}_stderr"]["propertyNames"]["enum"] == stats


def test_the_schemas_have_every_role_and_statistic_name() -> None:
    layer = load_schema("profile")["$defs"]["layer"]["properties"]["weight_grad"]
    roles = load_schema("schemes")["$defs"]["scheme"]["properties"]["roles"]
    stat = load_schema("check")["$defs"]["result"]["properties"]["stat"]

    assert layer["propertyNames"]["enum"] == list(ROLES)
    assert roles["propertyNames"]["enum"] == [role for role in ROLES if role != "qkv"]
    assert stat["enum"] == list(STATISTICS)


@pytest.mark.parametrize(
    "profile",
    [
        make_profile(grad=True),
        make_profile(seeds=1),
        make_profile(torch=None, scheme=None, cost=Cost(seconds=1.5, peak_bytes=10)),
        small_profile(),
    ],
    ids=["gradients", "one seed", "theory", "small"],
)
def test_profiles_are_what_their_schema_says(profile: gptinit.Profile) -> None:
    validate("profile", profile_document(profile))


@pytest.mark.parametrize("ranked", [True, False])
def test_comparisons_are_what_their_schema_says(ranked: bool) -> None:
    validate("compare", comparison_document(small_comparison(ranked=ranked)))


def test_checks_are_what_their_schema_says() -> None:
    validate("check", check_document(small_report()))


def test_schemes_are_what_their_schema_says() -> None:
    validate("schemes", schemes_document(load_schemes().values()))
    validate(
        "schemes",
        schemes_document([get_scheme("nanogpt")], shape=GPTConfig(n_layer=2), values=_values()),
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("unheard",), 1),
        (("model", "unheard"), 1),
        (("run", "engine"), "auto"),
        (("embedding", "loss"), 1.0),
        (("embedding", "resid_var"), None),
        (("embedding", "stderr", "loss"), 1.0),
        (("embedding", "stderr"), {}),
        (("layers", 0, "unheard"), 1),
        (("layers", 0, "predicted", "loss"), 1.0),
        (("layers", 0, "weight_grad", "c_proj"), {"grad_rms": 1.0}),
        (("layers", 0, "resid_var"), -1.0),
        (("findings", 0, "severity"), "fatal"),
        (("notes", 0, "kind"), "gossip"),
    ],
)
def test_the_profile_schema_refuses_what_is_not_in_the_contract(
    path: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(render_json(profile_document(small_profile())))
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value

    with pytest.raises(ValidationError):
        validate("profile", document)


@pytest.mark.parametrize("key", ["schema_version", "torch", "scheme", "whole", "findings"])
def test_the_profile_schema_wants_every_key(key: str) -> None:
    document = profile_document(small_profile())
    del document[key]

    with pytest.raises(ValidationError, match=f"'{key}' is a required property"):
        validate("profile", document)


def test_a_broken_profile_breaks_a_comparison() -> None:
    document = comparison_document(small_comparison())
    document["profiles"][1]["layers"][0]["unheard"] = 1

    with pytest.raises(ValidationError):
        validate("compare", document)


def test_a_profile_has_the_keys_of_the_contract_in_its_order() -> None:
    document = profile_document(small_profile())

    assert " ".join(document) == (
        "schema_version gptinit torch model scheme run embedding layers final whole findings notes"
    )
    assert " ".join(document["model"]) == (
        "name source n_layer n_head n_kv_head head_dim n_embd d_ff block_size vocab_size norm "
        "norm_placement positions activation bias tied n_params"
    )
    assert " ".join(document["run"]) == (
        "engine weights device device_name dtype seed seeds batch_size seq_len data data_sha256 "
        "lens_rows query_rows"
    )
    assert document["schema_version"] == 1
    assert document["gptinit"] == gptinit.__version__


def test_a_layer_has_statistics_in_the_order_of_the_vocabulary_and_its_parts_after_them() -> None:
    layer = profile_document(small_profile())["layers"][0]

    assert list(layer.items()) == [
        ("layer", 0),
        ("resid_var", 0.002),
        ("token_cosine", 0.5),
        ("nonfinite", 3),
        ("stderr", {"resid_var": 0.00013, "token_cosine": 0.012}),
        ("predicted", {"resid_var": 0.0021}),
        (
            "weight_grad",
            {
                "q": {
                    "grad_rms": 0.25,
                    "weight_rms": 0.02,
                    "ratio": 12.5,
                    "stderr": {"grad_rms": 0.03, "weight_rms": 0.0004, "ratio": 1.5},
                },
                "linear_bias": {"grad_rms": 0.125, "weight_rms": 0.0},
            },
        ),
    ]
    assert list(layer["stderr"]) == ["resid_var", "token_cosine"]


def test_a_whole_count_is_an_integer_and_a_mean_of_counts_is_not() -> None:
    document = profile_document(
        small_profile(
            embedding=Place(values={"nonfinite": 3.0}), final=Place(values={"nonfinite": 0.5})
        )
    )

    assert type(document["embedding"]["nonfinite"]) is int
    assert document["final"]["nonfinite"] == 0.5


def test_parts_without_numbers_are_absent() -> None:
    document = profile_document(make_profile(seeds=1))

    for place in (document["embedding"], *document["layers"], document["final"], document["whole"]):
        assert not {"stderr", "predicted", "weight_grad"} & place.keys()


def test_what_is_not_finite_is_absent_and_never_null() -> None:
    broken = Place(
        values={"resid_var": math.inf, "max_abs": 2.0, "nonfinite": 7.0},
        stderr={"resid_var": math.nan},
        predicted={"resid_var": math.inf},
        weight_grad={
            "q": WeightGrad(grad_rms=math.nan, weight_rms=0.02, ratio=math.nan),
            "k": WeightGrad(grad_rms=math.nan, weight_rms=math.nan, ratio=None),
        },
    )
    document = profile_document(small_profile(layers=(broken,)))

    assert document["layers"] == [
        {"layer": 0, "max_abs": 2.0, "nonfinite": 7, "weight_grad": {"q": {"weight_rms": 0.02}}}
    ]
    validate("profile", document)


def test_a_statistic_that_the_vocabulary_lacks_is_not_dropped_in_silence() -> None:
    with pytest.raises(KeyError, match="unheard"):
        profile_document(small_profile(whole=Place(values={"unheard": 1.0})))


def test_only_torch_and_scheme_may_be_null() -> None:
    text = render_json(profile_document(small_profile(torch=None, scheme=None)))

    assert [line.strip() for line in text.splitlines() if "null" in line] == [
        '"torch": null,',
        '"scheme": null,',
    ]


def test_cost_is_there_only_when_it_was_measured() -> None:
    timed = small_profile(cost=Cost(seconds=1.5, peak_bytes=1024))

    assert "cost" not in profile_document(small_profile())
    assert profile_document(timed)["cost"] == {"seconds": 1.5, "peak_bytes": 1024}
    assert list(profile_document(timed))[-1] == "cost"


def test_a_comparison_holds_whole_profiles_and_its_ranking() -> None:
    comparison = small_comparison()
    document = comparison_document(comparison)

    assert " ".join(document) == "schema_version gptinit axis labels profiles ranking"
    assert document["axis"] == "schemes"
    assert document["labels"] == ["plain", "nanogpt"]
    assert document["profiles"] == [profile_document(p) for p in comparison.profiles]
    assert document["ranking"] == {"by": "fewest findings", "order": ["nanogpt", "plain"]}
    assert "ranking" not in comparison_document(small_comparison(ranked=False))


def test_a_check_leaves_out_limits_and_values_that_are_not_there() -> None:
    unbounded = bound_result(value=None, stderr=None, max=None, min=0.5, verdict="violated")
    document = check_document(CheckReport(results=(bound_result(), unbounded), findings=()))

    assert list(document["results"][0].items()) == [
        ("model", "gpt2"),
        ("stat", "resid_growth"),
        ("where", "whole"),
        ("value", 2.5),
        ("stderr", 0.125),
        ("max", 1000),
        ("verdict", "ok"),
        ("why", "It drowns."),
    ]
    assert " ".join(document["results"][1]) == "model stat where min verdict why"
    assert document["findings"] == []
    assert " ".join(document) == "schema_version results findings"


def test_schemes_carry_formulas_and_values_at_a_shape() -> None:
    document = schemes_document([get_scheme("gpt2")], shape=GPTConfig(n_layer=2), values=_values())
    scheme = document["schemes"][0]

    assert " ".join(scheme) == "name title aliases year source verified notes roles"
    assert (scheme["name"], scheme["aliases"], scheme["year"]) == ("nanogpt", ["gpt2"], 2023)
    assert scheme["roles"]["attn_out"] == {
        "dist": "normal",
        "std": "0.02 / sqrt(2 * n_layer)",
        "values": [
            {"kind": "normal", "mean": 0.0, "std": 0.1},
            {"kind": "constant", "mean": 0.0, "std": 0.0},
        ],
    }
    assert scheme["roles"]["norm_weight"] == {"dist": "const", "value": "1"}
    assert document["shape"]["n_layer"] == 2
    assert "shape" not in schemes_document([get_scheme("gpt2")])


def test_a_scheme_without_a_year_has_none() -> None:
    document = schemes_document([replace(get_scheme("gpt2"), year=None)])

    assert "year" not in document["schemes"][0]


def test_numbers_keep_full_precision_and_texts_their_signs() -> None:
    text = render_json({"a": 0.1 + 0.2, "b": "±", "c": [1]})

    assert text == ('{\n  "a": 0.30000000000000004,\n  "b": "±",\n  "c": [\n    1\n  ]\n}\n')


def test_a_document_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_json({"a": math.nan})


def test_equal_profiles_give_equal_bytes() -> None:
    first, second = (render_json(profile_document(make_profile(grad=True))) for _ in range(2))

    assert first == second
