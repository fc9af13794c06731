"""Tables for spreadsheets."""

import csv
import io
import math

from support.audit_reports import small_audit
from support.report_profiles import bound_result, small_comparison, small_profile, small_report

from gptinit.facts.distributions import Constant, Normal
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.gate.judge import CheckReport
from gptinit.report.csvdoc import audit_csv, check_csv, comparison_csv, profile_csv, schemes_csv
from gptinit.results.profile import Place


def test_a_profile_is_one_row_a_number() -> None:
    assert profile_csv(small_profile()) == (
        "place,stat,value,stderr,predicted\n"
        "embedding,resid_var,0.000803,1.3e-05,\n"
        "layer 0,resid_var,0.002,0.00013,0.0021\n"
        "layer 0,token_cosine,0.5,0.012,\n"
        "layer 0,nonfinite,3,,\n"
        "layer 0,weight_grad.q.grad_rms,0.25,0.03,\n"
        "layer 0,weight_grad.q.weight_rms,0.02,0.0004,\n"
        "layer 0,weight_grad.q.ratio,12.5,1.5,\n"
        "layer 0,weight_grad.linear_bias.grad_rms,0.125,,\n"
        "layer 0,weight_grad.linear_bias.weight_rms,0.0,,\n"
        "final,loss,6.92,0.0,\n"
        "whole,resid_growth,2.49,0.16,\n"
    )


def test_a_number_that_only_theory_has_is_a_row_without_a_value() -> None:
    profile = small_profile(whole=Place(values={}, predicted={"resid_growth": 2.0}))

    assert "whole,resid_growth,,,2.0\n" in profile_csv(profile)


def test_csv_keeps_full_precision_and_what_is_not_finite() -> None:
    third, broken = 1 / 3, math.inf
    profile = small_profile(
        final=Place(values={"loss": broken}), whole=Place(values={"resid_growth": third})
    )
    rows = list(csv.DictReader(io.StringIO(profile_csv(profile))))

    assert float(rows[-1]["value"]) == third
    assert rows[-2]["value"] == "inf"


def test_a_comparison_is_one_row_a_profile_in_the_order_asked_for() -> None:
    assert comparison_csv(small_comparison()) == (
        "label,scheme,n_layer,n_embd,resid_var,resid_var_stderr,resid_growth,resid_growth_stderr,"
        "logit_std,logit_std_stderr,loss_excess,loss_excess_stderr,"
        "grad_growth,grad_growth_stderr\n"
        "plain,plain,1,64,0.002,0.00013,2.49,0.16,,,,,,\n"
        "nanogpt,nanogpt,1,64,0.002,0.00013,1.25,,,,,,,\n"
    )


def test_a_check_is_one_row_a_bound() -> None:
    assert check_csv(small_report()) == (
        "model,stat,where,value,stderr,min,max,verdict,why\n"
        "gpt2,resid_growth,whole,2.5,0.125,,1000,ok,It drowns.\n"
        "gpt2,nonfinite,layer 3,4.0,0.0,,0,violated,It drowns.\n"
        "wide,resid_growth,whole,,,0.5,1000,violated,It drowns.\n"
        "wide,loss,final,2.5,0.125,,1000,inconclusive,It drowns.\n"
    )


def test_commas_and_quotes_stay_in_their_cell() -> None:
    report = CheckReport(results=(bound_result(why='one, "two"\nthree'),), findings=())
    row = next(csv.DictReader(io.StringIO(check_csv(report), newline="")))

    assert row["why"] == 'one, "two"\nthree'


def test_schemes_are_one_row_a_role() -> None:
    lines = schemes_csv([get_scheme("gpt2")]).splitlines()

    assert lines[:2] == [
        "scheme,verified,role,dist,std,mean,cut,bound,value",
        "nanogpt,yes,tok_emb,normal,0.02,,,,",
    ]
    assert "nanogpt,yes,attn_out,normal,0.02 / sqrt(2 * n_layer),,,," in lines
    assert "nanogpt,yes,norm_weight,const,,,,,1" in lines
    assert len(lines) == 1 + len(get_scheme("gpt2").rules)


def test_values_at_a_shape_are_two_more_columns() -> None:
    values = {"nanogpt": {"q": (Normal(0.0, 0.5),), "k": (Constant(1.0), Normal(0.0, 0.25))}}
    lines = schemes_csv([get_scheme("gpt2")], values=values).splitlines()

    assert lines[0].endswith(",value,at_mean,at_std")
    assert "nanogpt,yes,q,normal,0.02,,,,,0.0,0.5" in lines
    assert "nanogpt,yes,k,normal,0.02,,,,,1.0,0.0" in lines
    assert "nanogpt,yes,k,normal,0.02,,,,,0.0,0.25" in lines
    assert "nanogpt,yes,v,normal,0.02,,,,,," in lines


def test_every_formula_of_every_scheme_is_in_the_table() -> None:
    rows = list(csv.DictReader(io.StringIO(schemes_csv(load_schemes().values()))))

    found = {
        (row["scheme"], row["role"]): {
            name: row[name] for name in ("std", "mean", "cut", "bound", "value") if row[name]
        }
        for row in rows
    }
    assert found == {
        (slug, role): dict(rule.formulas)
        for slug, scheme in load_schemes().items()
        for role, rule in scheme.rules.items()
    }


def test_an_audit_is_one_row_a_tensor_with_what_is_expected_of_it_where_it_is_known() -> None:
    header, embedding, *others = audit_csv(small_audit()).splitlines()

    assert header == (
        "name,kind,role,layer,shape,dtype,drawn_from,mean,std,expected,expected_mean,"
        "expected_std,ratio,hint"
    )
    assert embedding == (
        'wte.weight,parameter,tok_emb,,1000x64,float32,"N(0, 0.02)",0.0,0.02,"N(0, 0.02)",0.0,'
        "0.02,1.0,"
    )
    assert others[3] == "h.0.attn.c_proj.bias,parameter,linear_bias,0,64x64,float32,0,0.0,0.0,,,,,"
    assert others[6].startswith("h.0.attn.mask,buffer,other,0,64x64,float32,")
    assert others[6].endswith(",nan,nan,,,,,")
