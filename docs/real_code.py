"""The tables of real-code.md, from what `python -m benchmarks real-code` wrote down."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["real_code_commands", "real_code_counts", "real_code_table"]

RECORD = Path(__file__).resolve().parent / "real-code.json"


def _record() -> Mapping[str, Any]:
    """The last run."""
    found: Mapping[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def real_code_counts() -> str:
    """What was run, and how much of it works."""
    record = _record()
    rows = record["rows"]
    direct = [row for row in rows if row["direct"]]
    compared = [row for row in rows if row["z"]]
    beyond = record["beyond"]
    names = f": {', '.join(beyond)}" if beyond else ""
    lines = [
        f"- {record['date']}, gptinit at {record['gptinit']}, torch {record['torch']}, "
        f"transformers {record['transformers']}, CPU.",
        f"- {len(rows)} models of {len({row['repository'] for row in rows})} code bases: "
        f"{sum(row['audited'] for row in rows)} audited, {sum(map(_is_right, rows))} of them "
        f"about the init that the trainer runs; {sum(row['measured'] for row in rows)} measured.",
        f"- {len(compared)} measured beside plain hooks, {record['seeds']} seeds, "
        f"{record['seq_len']} uniform tokens; {len(beyond)} beyond noise{names}.",
        f"- {len(direct)} named directly, as in the first review: {_works(direct, 1)} come to a "
        f"verdict about the right init at once, {_works(direct, 2)} at the second try, "
        f"{_works(direct, 9)} with all that the messages say to type.",
    ]
    return "\n".join(lines) + "\n"


def _works(rows: Sequence[Mapping[str, Any]], tries: int) -> int:
    """How many come to a verdict about the right init within that many tries."""
    return sum(_is_right(row) and len(row["audit_tries"]) <= tries for row in rows)


def _is_right(row: Mapping[str, Any]) -> bool:
    """Whether the audit is about the init that the trainer runs."""
    return bool(row["audited"]) and (row["init"] or "none") == row["trainer_init"]


def real_code_table() -> str:
    """A row a model."""
    record = _record()
    head = [
        "| model | version | audit | init run | traced | roles | findings | closest scheme "
        "| stream | z | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [_row(row, is_beyond=row["name"] in record["beyond"]) for row in record["rows"]]
    return "\n".join([*head, *rows]) + "\n"


def _row(row: Mapping[str, Any], *, is_beyond: bool) -> str:
    """One line of the table."""
    cells = [row["name"], row["version"], _tries(row["audit_tries"], row["audited"])]
    if row["audited"]:
        errors, warnings, notes = row["findings"]
        cells += [
            _init(row),
            f"{row['traced'][0]}/{row['traced'][1]}",
            f"{row['roles'][0]}/{row['roles'][1]}",
            f"{errors} E, {warnings} W, {notes} N",
            row["closest"] or "none",
        ]
    else:
        cells += [""] * 5
    z = f"{max(row['z'], key=abs):+.1f}" if row["z"] else row["why"]
    seconds = f"{row['seconds'][0]:.0f} + {row['seconds'][1]:.0f}"
    cells += [_stream(row), f"**{z}**" if is_beyond else z, seconds]
    return f"| {' | '.join(cells)} |"


def _init(row: Mapping[str, Any]) -> str:
    """What was run after the constructor, and what should have been."""
    ran = row["init"] or "none"
    return f"`{ran}`" if _is_right(row) else f"`{ran}`, not `{row['trainer_init']}`"


def _tries(tries: Sequence[Mapping[str, Any]], works: bool) -> str:
    """At which try a command worked."""
    if not works:
        return "no"
    return ("first", "second", "third")[len(tries) - 1] if len(tries) < 4 else f"{len(tries)}th"


def _stream(row: Mapping[str, Any]) -> str:
    """Whether inspect found the stream, and with which option if not by itself."""
    if not row["measured"]:
        return "no"
    known = row["inspect_tries"][0]["options"]
    more = [o for o in row["inspect_tries"][-1]["options"] if o.startswith("--") and o not in known]
    return f"with {' '.join(more)}" if more else "itself"


def real_code_commands() -> str:
    """Every command as typed in the end, and the message where it does not work."""
    lines = []
    for row in _record()["rows"]:
        folder = f" in {row['folder']}" if row["folder"] else ""
        lines += [f"**{row['name']}** ({row['repository']}{folder})", "", "```text"]
        for verb, works in (("audit", row["audited"]), ("inspect", row["measured"])):
            said = row[f"{verb}_tries"][-1]["message"]
            if verb == "audit":
                lines.append(row["command"])
            if not works:
                lines.append(f"{verb}: {said}")
            if not works and verb == "audit":
                break
        lines += ["```", ""]
    return "\n".join(lines).rstrip() + "\n"
