"""Personal data: found by value or by name, decided in the schema, made up and never real in the output."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.pii import PATTERNS, completed
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.errors import SpecError
from genpipe.fields import Text
from genpipe.pattern import language
from genpipe.sources.schema_file import schema_from_yaml, schema_to_yaml
from genpipe.sources.tabular.pii import CHECKS, find, is_card, is_iban, look
from genpipe.verbs import ingest

ROWS = 300


def card(n: int) -> str:
    body = f"4{n * 7919:014d}"
    return next(f"{body}{d}" for d in range(10) if is_card(f"{body}{d}"))


def iban(n: int) -> str:
    return next(f"GB{k:02d}WEST{n:014d}" for k in range(2, 99) if is_iban(f"GB{k:02d}WEST{n:014d}"))


REAL = {
    "mail": ("email", lambda i: f"user{i}@corp.co.uk"),
    "site": ("url", lambda i: f"https://corp.com/u/{i}"),
    "host": ("ipv4", lambda i: f"10.0.{i % 7}.{i % 250}"),
    "host6": ("ipv6", lambda i: f"fe80::{i:x}"),
    "ssn_no": ("ssn", lambda i: f"{100 + i}-12-{1000 + i}"),
    "account": ("iban", iban),
    "paid_with": ("card", card),
    "contact": ("phone", lambda i: f"+44 20 7946 {i:04d}"),
    "mobileNumber": ("phone", lambda i: f"07{i + 100000000}"),
    "first_name": ("name", lambda i: ["Ada", "Grace", "Alan"][i % 3]),
    "name": ("name", lambda i: f"{['Ada', 'Grace'][i % 2]} Real{chr(97 + i % 26)}"),
    "home address": ("address", lambda i: f"{i} Real Road"),
}
PLAIN = {
    "height": lambda i: f"{150 + i % 50}",
    "product_name": lambda i: ["lamp", "desk"][i % 2],
    "version": lambda i: f"1.{i % 3}.{i % 4}",
    "time": lambda i: f"{i % 24:02d}:30:00",
    "parcel": lambda i: f"{4000000000000000 + i * 977}",  # one in ten passes Luhn's check
    "email_sent": lambda i: ["yes", "no"][i % 2],
    "street": lambda i: ["paved", "gravel"][i % 2],
    "address_count": lambda i: f"{i % 4}",
}


def people(path: Path) -> str:
    with path.open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow([*REAL, *PLAIN])
        for i in range(ROWS):
            writer.writerow([make(i) for make in (*(m for _, m in REAL.values()), *PLAIN.values())])
    return str(path)


def test_personal_data_is_found_explained_and_made_up(home: Path, tmp_path: Path) -> None:
    dataset = ingest(people(tmp_path / "people.csv"), name="people", holdout=0.2)
    schema = dataset.schema
    assert {f.name: f.pii for f in schema.fields if f.pii} == {name: kind for name, (kind, _) in REAL.items()}
    for name in REAL:
        field = schema.field(name)
        assert isinstance(field, Text) and "personal data, never learnt" in field.reason
    assert "64 of the 64 values looked at are e-mail addresses: personal data" in schema_to_yaml(schema)
    table = dataset.table("train").combine_chunks()
    codec = fit(TabularCodec, schema, table.to_batches())
    assert not {c.field.name for c in codec.learnt} & set(REAL)
    arrays = codec.encode(table.to_batches()[0], "tokens")
    made = codec.identify(codec.decode(arrays, "tokens", np.random.default_rng(0)), 5000, 0)
    for name, (kind, make) in REAL.items():
        values = made.column(name).to_pylist()
        assert not set(values) & {make(i) for i in range(ROWS)}
        assert kind in ("ssn", "name", "address") or all(map(CHECKS[kind], values)), name
        assert len(set(values)) > (len(values) if kind in ("email", "iban", "card", "ssn") else 150) * 0.99
    assert all(re.search(r"@example\.(com|org)$", v) for v in made.column("mail").to_pylist())
    assert all(re.search(r"-555-01\d\d$", v) for v in made.column("contact").to_pylist())
    assert all(v[0] == "9" for v in made.column("ssn_no").to_pylist())


def test_a_person_may_decide_otherwise(home: Path, tmp_path: Path) -> None:
    source = people(tmp_path / "people.csv")
    path = tmp_path / "schema.yaml"
    text = schema_to_yaml(ingest(source, name="people", holdout=0.2).schema)
    plain = re.sub(r"(name: host\n.*kind: )text((?:\n.*)*?pii: )ipv4", r"\1category\2none", text)
    path.write_text(plain.replace("pii: email", "pii: none"))
    schema = schema_from_yaml(str(path))
    assert schema.field("host").kind == "category" and schema.field("mail").pii == "none"
    dataset = ingest(source, name="people2", holdout=0.2, schema=str(path))
    table = dataset.table("train").combine_chunks()
    codec = fit(TabularCodec, schema, table.to_batches(), CodecConfig(rare="keep"))
    assert "host" in {c.field.name for c in codec.learnt}
    back = codec.decode(codec.encode(table.to_batches()[0], "tokens"), "tokens", np.random.default_rng(0))
    assert all(v.startswith("mail-") for v in back.column("mail").to_pylist())
    path.write_text(text.replace("kind: text", "kind: category", 1))
    with pytest.raises(SpecError, match="pii: email is for columns of made-up text; make it a text"):
        schema_from_yaml(str(path))
    path.write_text(text.replace("pii: email", "pii: horoscope"))
    with pytest.raises(SpecError, match=r"fields\[0\].pii: Input should be 'email', 'url'"):
        schema_from_yaml(str(path))


def test_the_target_is_never_taken_away(home: Path, tmp_path: Path) -> None:
    source = people(tmp_path / "people.csv")
    schema = ingest(source, name="people", holdout=0.2, target="first_name").schema
    assert schema.field("first_name").kind == "category"


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (is_iban, ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"], ["GB82WEST12345698765433"]),
        (is_card, ["4111 1111 1111 1111", "378282246310005"], ["4111111111111112", "4111", "41-11x"]),
        (CHECKS["ssn"], ["123-45-6789"], ["000-45-6789", "666-12-1234", "912-12-1234",
                         "123-00-1234"]),
        (CHECKS["email"], ["a.b+c@d.example"], ["a@b", "@b.com", "a b@c.de"]),
        (CHECKS["ipv4"], ["255.0.0.1"], ["256.0.0.1", "1.2.3", "1.2.3.4.5"]),
        (CHECKS["ipv6"], ["::1", "2001:db8::ff00:42:8329"], ["12:30:00", "1::2::3"]),
        (CHECKS["phone"], ["+1 (555) 010-9999", "(030) 123 4567", "555-010-9999"], ["2024-01-02", "+12"]),
    ],
)  # fmt: skip
def test_checks(check: Any, right: list[str], wrong: list[str]) -> None:
    assert all(map(check, right)) and not any(map(check, wrong))


@pytest.mark.parametrize("kind", PATTERNS)
def test_made_up_values_have_right_checksums_and_are_many(kind: Any) -> None:
    strings = language(PATTERNS[kind])
    texts = [completed(kind, strings[i * (strings.size - 1) // 499]) for i in range(500)]
    assert len(set(texts)) == 500 and strings.size >= 768
    assert kind in ("ssn", "name", "address") or all(map(CHECKS[kind], texts))


def test_few_values_or_few_hits_prove_nothing() -> None:
    assert find("x", look(pa.array(["a@b.de"] * 100))) is None
    mixed = [f"a{i}@b.de" if i % 10 < 8 else f"word {i}" for i in range(200)]
    assert find("x", look(pa.array(mixed))) is None
    assert find("x", look(pa.array([1.5, 2.5]))) is None
    some = look(pa.array(mixed[:7])) + look(pa.array([f"a{i}@b.de" for i in range(200)]))
    assert find("x", some) == ("email", "71 of the 71 values looked at are e-mail addresses")
