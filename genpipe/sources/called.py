"""What a table's columns are called: words for persons, their attributes, their numbers, things and events.

English, and a few words of other languages.
"""

from __future__ import annotations

import re
import unicodedata

PERSON = re.compile(
    r"\b(person|people|patient|insured|customer|client|user|member|employee|staff|student|pupil|subject|participant"
    r"|respondent|household|hh|family|worker|citizen|holder|account|passenger|borrower|driver|player|guest|donor"
    r"|voter|resident|owner|tenant|individual|doctor|physician|nurse|teacher|prof|professor|author|reviewer"
    r"|applicant|candidate|contestant|athlete|child|mother|father|seller|buyer|agent|mrn|nhs|ahv|ssn|pid|uid"
    r"|versichert\w*|(patienten|kunden|personen?|mitglieds?)(nr|nummer)|kundin|kunde|mitglied|person(nummer|alia)"
    r"|cliente?|assure|pa[zc]iente|cpf|dni|bsn|svnr"
    r"|(person|pat|user|cust|child|subj|usubj|emp|hh|stud|case)?id|idcode|nr)\b"
)
ATTRIBUTE = re.compile(
    r"\b(birth ?(date|day|year|yr)|date of birth|year of birth|dob|born|geburt\w*|naissance|nascita"
    r"|nacimiento|sex|gender|blood ?(group|type)|race|ethnic(ity)?|marital( status)?|surname"
    r"|(first|last|full|given|family|patient|customer|client|employee|person|student) ?name)\b|^name$"
)
THING = re.compile(
    r"\b(product|item|sku|article|stock|part|material|isbn|asin|airport|origin|destination|dest|station|stop"
    r"|city|town|country|county|state|zip ?(code)?|zipcode|postal|postcode|region|district|store|shop|branch"
    r"|warehouse|model|make|brand|movie|film|book|song|course|question|sensor|device|machine|symbol|ticker"
    r"|species|plane|tailnum|flight|route|vehicle|lat|lon|lng|latitude|longitude|easting|northing|year|month|week|day|date|time|hour)"
    r" ?(id|code|no|nr|num|number|key|name|fips)?\b"
)
# what stands beside a word for a person where a column holds its number: account no, but not account balance
NUMBER = re.compile(
    r"\b(id|nr|no|num|number|nummer|numero|code|key|ref|reference|identifier|card|index|of|the)\b"
)
EVENT = re.compile(
    r"\b(invoice|order|transaction|visit|session|ticket|event|batch|lot|encounter|claim|trip)\b"
)


def words(name: str) -> str:
    """A column's name as words: InsuredNo -> insured no."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()).strip()


def names_person(called: str) -> bool:
    """Whether the words are for a person and nothing else: customer no, but not customer rating."""
    return bool(PERSON.search(called)) and not NUMBER.sub("", PERSON.sub("", called)).strip()
