"""From scores to one word and one sentence: what a report concludes, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy.findings import Finding
from genpipe.evaluation.privacy.nearest import Share, distinct
from genpipe.evaluation.report import Score, Verdict

MARGIN = 0.1  # a share this far above chance, beyond three standard errors, is copying
LEAST_DISTINCT, LEAST_SPREAD, LEAST_COVERAGE = 0.2, 0.1, 0.1  # of the real rows' own
GRADES: dict[Verdict, float] = {"excellent": 0.9, "good": 0.7, "fair": 0.4, "poor": -1.0}


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
    near = share.value - 3 * share.error > max(0.5, privacy.ceiling or 0.5) + MARGIN
    if (near or excess > 0.1) and not collapse:
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
    grade = next(grade for grade, least in GRADES.items() if level >= least)
    text = f"{grade.capitalize()}: {reached:.0%} of the way from shuffled to real data"
    if useful is not None:
        text += f"; models trained on it keep {useful:.0%} of the skill real rows give"
    return grade, text + "."


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
