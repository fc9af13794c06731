"""The head: how wide its logits start, and whether it is the embedding."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.architectures import SCALED_LOGITS
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["logit_scale", "tie_broken", "tie_unexpected", "tied_role_std_conflict"]

_WIDE = 3.0  # logit_std^2/2 = 4.5 nats above ln(vocab_size)
_SCALED_IF_TIED = ("t5", "umt5")  # of SCALED_LOGITS those that scale the logits of a tied head only
_EMBEDDING_STD = 0.5  # embeddings drawn at the scale of the stream have more, heads far less


def logit_scale(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """The head, if its logits start so wide that the first loss is far above ln(vocab_size)."""
    head, width = _head(program), program.facts.n_embd
    if head is None or _scales_logits(program):
        return
    std = _logit_std(head, program)
    if std is None or std <= _WIDE:
        return
    vocab = program.facts.vocab_size or head.shape[0]
    frozen = math.sqrt(2 * math.log(max(vocab, 2)))  # one token has all the weight beyond it
    severity: Severity = "error" if std > 2 * frozen else "warning"
    message = (
        f"Logits must start near std 1, got a head of {head.distribution} on a normalised stream "
        f"of {width} features: logit std {std:.3g}, a first loss about "
        f"{_excess(std, frozen):.3g} nats above ln(vocab_size) = {math.log(max(vocab, 2)):.3g}. "
        f"1/sqrt(n_embd) = {width**-0.5:.4g} gives 1."
    )
    yield Hit(head, severity, message)


def _scales_logits(program: ModelProgram) -> bool:
    """Whether the architecture is known to scale its logits, in a forward that was not followed."""
    if program.logit_multiplier is not None:  # the forward was followed, and is accounted for
        return False
    scaled = program.architecture in SCALED_LOGITS
    return scaled and bool(program.facts.tied or program.architecture not in _SCALED_IF_TIED)


def _excess(std: float, frozen: float) -> float:
    """Nats above ln(vocab_size) for normal logits: std^2/2, linear once one token has it all."""
    return std**2 / 2 if std < frozen else std * frozen - frozen**2 / 2


def _head(program: ModelProgram) -> ParameterProgram | None:
    """The matrix that makes the logits: the head, or the embedding that it is tied to."""
    heads = [p for p in program.parameters if p.role == "lm_head"]
    return heads[0] if heads else _shared(program)


def _shared(program: ModelProgram) -> ParameterProgram | None:
    """The tensor that is embedding and head; None where these are two.

    It has two names, or one that the forward uses in both places.
    """
    both = [p for p in program.parameters if p.role in ("tok_emb", "lm_head")]
    named = [p for p in both if p.aliases] or both
    return named[0] if named and program.facts.tied else None


def _logit_std(head: ParameterProgram, program: ModelProgram) -> float | None:
    """Std of the logits for a normalised stream; None where nothing normalises it."""
    norms = [p for p in program.parameters if p.role == "norm_weight"]
    if not norms or not head.distribution.std > 0:
        return None
    final = [p.gain for p in norms if p.layer is None and p.gain is not None]
    gain = (final[-1] if final else 1.0) * (program.logit_multiplier or 1.0)
    return head.distribution.std * math.sqrt(program.facts.n_embd) * gain


def tied_role_std_conflict(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """The tied tensor, if its std suits the embedding alone, or the claim draws its roles apart."""
    head = _shared(program)
    if head is None:
        return
    std, logits = head.distribution.std, _logit_std(head, program)
    wide = logits is not None and logits > _WIDE and not _scales_logits(program)
    if std >= _EMBEDDING_STD and wide:
        message = (
            f"A tensor that is embedding and head at once must suit the head, std about "
            f"1/sqrt(n_embd) = {program.facts.n_embd**-0.5:.4g}, got {head.distribution}, which "
            f"suits an embedding: the logits start with std {logits:.3g}."
        )
        yield Hit(head, "error", message)
        return
    if context.claim is None:
        return
    fans = {"fan_in": program.facts.n_embd, "fan_out": program.facts.vocab_size}
    laws = [context.claim.expected(r, program.facts, **fans) for r in ("tok_emb", "lm_head")]
    if laws[0] and laws[1] and abs(laws[0].std - laws[1].std) > 0.01 * laws[0].std:
        message = (
            f"{context.claim.slug} must be followed by an untied model, or say which role wins: it "
            f"draws the embedding from {laws[0]} and the head from {laws[1]}, got one tensor for "
            "both."
        )
        yield Hit(head, "warning", message)


def tie_broken(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """The head, if the settings tie it to the embedding and it is a separate tensor."""
    heads = [p for p in program.parameters if p.role == "lm_head"]
    embedded = [p for p in program.parameters if p.role == "tok_emb"]
    if not (program.claims_tied and heads and embedded) or program.facts.tied:
        return
    message = (
        f"The settings tie the head to {embedded[0].name}, got two tensors of {heads[0].numel:,} "
        "values each, which training will move apart."
    )
    yield Hit(heads[0], "error", message)


def tie_unexpected(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """The embedding, if it is the head too and the settings say that it is not."""
    shared = _shared(program)
    if program.claims_tied is not False or shared is None:
        return
    message = (
        f"The settings say that the head is a separate tensor, got one tensor for it and the "
        f"embedding ({', '.join((shared.name, *shared.aliases))})."
    )
    yield Hit(shared, "error", message)
