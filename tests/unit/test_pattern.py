"""Every string of a pattern has one number, and every number one string."""

from __future__ import annotations

import itertools
import re

import pytest

from genpipe.pattern import Language


@pytest.mark.parametrize(
    "pattern",
    ["", "a", "[ab]{0,3}", "(a|a|ab)(b|)", "(a?b?){0,3}", "^x[^\\W\\d_a-y]$", "(?:a|(b|c){2})c?", "a{2,3}?b",
     "[a-c]{3}|[b]{3}|b{2,4}", "()", "a|"],
)  # fmt: skip
def test_the_strings_are_those_that_match(pattern: str) -> None:
    language = Language(pattern)
    strings = [language[i] for i in range(language.size)]
    assert len(set(strings)) == language.size
    alphabet = "abcxzZ"
    matching = {
        "".join(s)
        for n in range(7)
        for s in itertools.product(alphabet, repeat=n)
        if re.fullmatch(pattern.strip("^$") or "", "".join(s))
    }
    assert {s for s in strings if set(s) <= set(alphabet)} == matching
    assert all(re.fullmatch(pattern, s) for s in strings)


@pytest.mark.parametrize(
    ("pattern", "size"),
    [(r"[A-Z]{3}-\d{6}", 26**3 * 10**6), (r"\w{1,64}", sum(63**n for n in range(1, 65))),
     (r".\S\D", 95 * 94 * 85), (r"a\$", 1), (r"\d{1000}", 10**1000), ("é|ü", 2)],
)  # fmt: skip
def test_large_languages_are_counted_and_reached(pattern: str, size: int) -> None:
    language = Language(pattern)
    assert language.size == size
    for number in (0, size // 3, size - 1):
        assert re.fullmatch(pattern, language[number])
    with pytest.raises(IndexError):
        language[size]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a+", r"'a\+' has a repeat without end; say how often, such as \{1,8\}"),
        ("[a", "'\\[a' is no regular expression"),
        (r"(a)\1", "has groupref; leave it out"),
        ("a(?=b)", "has assert; leave it out"),
        ("a^b", "has at; leave it out"),
        ("(?i:a)", "has subpattern; leave it out"),
        ("a{4000}b{4000}", "is too long or too ambiguous"),
        ("(a?){4000}", "is too long or too ambiguous"),
        ("(a|b){0,40}a(a|b){14}", "is too long or too ambiguous"),
        ("(){0,9999999}", "has a repeat without end"),
        (r"[^\w\W]", "matches nothing"),
    ],
)
def test_what_has_no_numbered_strings_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Language(pattern)
