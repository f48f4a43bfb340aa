"""Made-up personal data that looks right and belongs to nobody, as patterns of what is set apart for it.

E-mail and web addresses of example.com and example.org (RFC 2606), telephones 555-01xx (North American
Numbering Plan), addresses of the documentation networks (RFC 5737, RFC 3849), social security numbers and
cards from ranges never issued, accounts of a bank code that is none; persons and streets are invented.
"""

from __future__ import annotations

GIVEN = "(Al|Be|Ca|Da|El|Fa|Ga|Ha|Io|Ja|Ka|Lo|Ma|Ne|Or|Pa|Ra|Si|Ta|Vi)(bra|delu|finar|loris|mirou|nosek)"
FAMILY = (
    "(Br|D|F|Gr|H|K|L|M|N|P|R|S|T|V|W)(a|e|i|o|u)(ldr|mbr|ntv|rkw|stl|vr|zzl)(ewick|ington|onova|usen|ywell)"
)
PATTERNS: dict[str, str] = {
    "email": f"{GIVEN.lower()}[.]{FAMILY.lower()}[0-9]{{2,4}}@example[.](com|org)",
    "url": "https://(www[.])?example[.](com|org)/[a-z]{4,8}(/[a-z0-9]{3,8})?",
    "ipv4": "(192[.]0[.]2|198[.]51[.]100|203[.]0[.]113)[.]([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    "ipv6": "2001:db8(:[1-9a-f][0-9a-f]{0,3}){6}",
    "ssn": "9[0-9]{2}-[0-4][0-9]-[0-9]{4}",
    "iban": "0{8}[0-9]{10}",  # the bank and the account; `completed` adds country and checksum
    "card": "999999[0-9]{9}",  # without its check digit
    "phone": "[+]1-[2-9][0-9]{2}-555-01[0-9]{2}",
    "name": f"{GIVEN} {FAMILY}",
    "address": f"[1-9][0-9]{{0,3}} {FAMILY} (Avenue|Lane|Road|Street|Way)",
}


def completed(kind: str | None, text: str) -> str:
    """The text with the digits that follow from the others: checksum of an IBAN, check digit of a card."""
    if kind == "iban":
        return f"DE{98 - int(f'{text}131400') % 97:02d}{text}"
    if kind == "card":
        doubled = sum(sum(divmod(2 * int(d), 10)) for d in text[::-2])
        return f"{text}{-(doubled + sum(map(int, text[-2::-2]))) % 10}"
    return text
