"""From scores to one word and one sentence: what a report concludes, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.findings import Finding
from genpipe.evaluation.privacy.nearest import Share, distinct
from genpipe.evaluation.report import Score, Verdict

MARGIN = 0.1  # a share this far above chance, beyond three standard errors, is copying
COPIED = 0.1  # share of equal rows, or of nearly equal ones, beyond that of unseen rows
LEAST_DISTINCT, LEAST_SPREAD, LEAST_COVERAGE = 0.2, 0.1, 0.1  # of the real rows' own
GRADES: dict[Verdict, float] = {"excellent": 0.9, "good": 0.7, "fair": 0.4, "poor": -1.0}
# what a careful reader of a table may see at most: area under the curve beyond that of real rows, and share
# of rows that break a rule beyond that of real rows: one of fifty, one of ten, half
SEEN: dict[Verdict, tuple[float, float]] = {"excellent": (0.1, 0.02), "good": (0.25, 0.1), "fair": (0.4, 0.5)}


def conclude(
    scores: Sequence[Score], share: Share, collapse: str, findings: Sequence[Finding]
) -> tuple[Verdict, str]:
    """Copies before leaks before collapse before any grade. collapse: why it counts as collapsed, or empty.

    A collapsed generator is near few rows, whether training rows or not: it is not said to copy.
    """
    named = {s.name: s for s in scores}
    privacy, same = named["privacy"], named["copies"]
    excess = (same.value or 0) - (same.ceiling or 0)
    leaks = [f.leak for f in findings if f.leak]
    moved = any(f.leak and f.score.name == "near_copies" and _beyond(f.score) > COPIED for f in findings)
    near = share.value - 3 * share.error > max(0.5, privacy.ceiling or 0.5) + MARGIN
    if (near or moved or excess > COPIED) and not collapse:
        hug = (
            f"Generated rows hug the training rows: {share.value:.0%} lie nearer to them than to unseen ones,"
            f" {same.value or 0:.1%} are equal to one"
        )
        return "copies", f"{'. '.join([hug, *leaks])}."
    if leaks:
        return "leaks", f"{'. '.join(leaks)}."
    if collapse:
        return "collapsed", f"The generator has collapsed: {collapse}."
    reached = named["fidelity"].position or 0.0
    useful = named["usefulness"].position
    level = reached if useful is None else min(reached, 0.5 * (reached + useful))
    grade, seen = graded(level, named)
    text = f"{grade.capitalize()}: {reached:.0%} of the way from shuffled to real data"
    if useful is not None:
        text += f"; models trained on it keep {useful:.0%} of the skill real rows give"
    return grade, f"{text}{seen}."


def graded(level: float, named: Mapping[str, Score]) -> tuple[Verdict, str]:
    """(the grade of a level, but no better than a careful reader allows; what that one sees, if less)."""
    grades = list(GRADES)
    grade = next(grade for grade, least in GRADES.items() if level >= least)
    reader, rules = (named.get(name) for name in ("reader", "rules"))
    apart, broken = _beyond(reader), _beyond(rules)
    allowed = next((g for g, most in SEEN.items() if apart <= most[0] and broken <= most[1]), grades[-1])
    if grades.index(allowed) <= grades.index(grade):
        return grade, ""
    if rules is not None and broken > SEEN[grade][1]:
        return (
            allowed,
            f"; but a reader sees {1 - (rules.value or 0):.1%} of rows break rules that real ones keep",
        )
    assert reader is not None
    return allowed, f"; but a careful reader tells generated rows from real ones (AUC {reader.value:.2f})"


def _beyond(score: Score | None) -> float:
    """How much worse than real rows, less two standard errors."""
    if score is None or score.value is None or score.ceiling is None:
        return 0.0
    sign = 1.0 if score.goal == "min" else -1.0
    return sign * (score.value - score.ceiling) - 2 * (score.error or 0.0)


def collapsed(spots: dict[str, Points], coverage: Score, parts: dict[str, dict[str, float]]) -> str:
    """Why the generator counts as collapsed, or an empty string."""
    synthetic, real = spots["synthetic"], spots["real"]
    unique, unique_real = distinct(synthetic), distinct(real)
    if unique < LEAST_DISTINCT * unique_real:
        return f"only {unique:.1%} of its rows differ from each other (real rows: {unique_real:.0%})"
    if synthetic.spread < LEAST_SPREAD * real.spread:
        return f"its rows spread {synthetic.spread / real.spread:.1%} as far as real ones"
    covered, covered_real = coverage.value or 0.0, coverage.ceiling or 0.0
    precise = parts.get("precision", {}).get("value", 0.0)
    if covered < LEAST_COVERAGE * covered_real and precise > 0.5:
        return f"it repeats a corner of the data: {covered:.1%} of real rows have a generated row close by"
    return ""
