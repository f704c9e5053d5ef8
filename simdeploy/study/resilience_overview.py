"""The matrix of an environment's resilience at a glance."""

from __future__ import annotations

from simdeploy.study.resilience import Figure, Resilience, Row, promised_text, reached_text, sentence
from simdeploy.tables import Table, listed


def matrix(found: Resilience, every: bool = False) -> Table:
    """Two rows per disruption: its figures, and whether they keep the policy. Only the worst of each kind, or *every* one."""
    held_at = found.policy.held_at
    reasons: list[str] = []
    rows = []
    for row in found.rows if every else found.worst:
        if row.problem and row.problem not in reasons:
            reasons.append(row.problem)
        of = sum(other.loss.lose == row.loss.lose for other in found.rows)
        note = f"[{reasons.index(row.problem) + 1}]" if row.problem else ""
        rows += [_figures(row, note), _verdicts(found, row, of)]
    objective = "objec-\ntive"
    header = ("disruption", "RTO\np50", f"RTO\n{held_at}", objective, "lost\np50", f"lost\n{held_at}", objective, f"down\n{held_at}")
    title = f"Resilience of {found.environment.name}: {found.replications:,} replications, seed {found.seed}"
    return Table(title, header, rows, "\n".join(_notes(found, reasons, every)))


def _figures(row: Row, note: str) -> tuple[str, ...]:
    name = str(row.loss) if len(str(row.loss)) <= 21 else f"{row.loss}"[:20] + "~"
    none = f"none {note}"
    if row.problem:
        return (name, none, none, _promised(row.rto), none, none, _promised(row.rpo), "-")
    times = (reached_text(row.rto.p50, "rto"), reached_text(row.rto.tail, "rto"), _promised(row.rto))
    losses = (reached_text(row.rpo.p50, "rpo"), reached_text(row.rpo.tail, "rpo"), _promised(row.rpo))
    return (name, *times, *losses, reached_text(row.downtime.tail, "rto"))


def _verdicts(found: Resilience, row: Row, of: int) -> tuple[str, ...]:
    alike = len(row.loss.alike)
    if of > 1 and any(row is one for one in found.worst):
        which = f"  worst of {of}" + (f", {alike} alike" if alike > 1 else "")
    else:
        which = f"  {alike} alike" if alike > 1 else ""
    return (which, "", "", _verdict(row.rto), "", "", _verdict(row.rpo), "")


def _promised(figure: Figure) -> str:
    return "-" if figure.objective_s is None else promised_text(figure.objective_s)


def _verdict(figure: Figure) -> str:
    if figure.objective_s is None:
        return ""
    return {True: "met", False: "MISSED", None: "?"}[figure.met]


def _notes(found: Resilience, reasons: list[str], every: bool) -> list[str]:
    notes = [
        "RTO: until validated service at the demanded capacity   down: nothing is served",
        "lost: acknowledged writes of this long are gone, held against the RPO",
    ]
    if any((row.rto.met is None and row.rto.missed) or (row.rpo.met is None and row.rpo.missed) for row in found.rows):
        notes.append("? too few replications to tell: a p95 takes 72, a p99 takes 368")
    notes += [f"[{k}] no recovery: {reason}" for k, reason in enumerate(reasons, start=1)]
    for lose, reason in found.nothing.items():
        notes.append(f"{lose}: {'? ' if lose in found.untold else ''}{reason}")
    hidden = [row for row in found.rows if not any(row is one for one in found.worst)]
    if hidden and not every:
        missing = [str(row.loss) for row in hidden if row.rto.missed or row.rpo.missed]
        also = f", of which {listed(missing)} {'misses' if len(missing) == 1 else 'miss'} an objective too" if missing else ""
        notes.append(f"shown is the worst of each kind; {len(hidden)} more with --all{also}")
    return notes


def breaches(found: Resilience) -> str:
    """One sentence per breach; that there is none, or nothing is promised."""
    promised = [row for row in found.rows if row.rto.objective_s is not None or row.rpo.objective_s is not None]
    if found.breaches:
        return "\n".join(sentence(b, found.policy.held_at, reasons=False) for b in found.breaches)
    if not promised:
        return "Nothing is promised; add a policy to the environment, for example 'policy: {machine: {rto: 1 h, rpo: 5 min}}'."
    return f"Everything that is promised is kept at {found.policy.held_at}." if found.all_met else ""
