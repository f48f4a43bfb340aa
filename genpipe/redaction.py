"""Text made fit to be shown or kept: no secrets, no control characters, no endless names.

What reaches a screen, a log, an error or an artifact passes through here, because names and messages come
from files, servers and libraries that we do not control. `redact` takes away the userinfo of URIs, secret
query parameters, AWS keys, and every value that the environment holds under a secret's name. `visible`
writes control characters, also those that turn the direction of text or have no width, as escapes: a
terminal obeys the raw ones.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
LONGEST_LINE = 20_000  # of a log; also what bounds the time the patterns below take

_SECRET = r"(?:password|passwd|pwd|secret|token|signature|credential|api[_-]?key|access[_-]?key(?:[_-]?id)?)"
# the second form: a password with a slash in it, as AWS keys have; host:5000/path is none
# a user's name alone is no secret of PostgreSQL's
_NAME_ALONE = r"(?!(?:(?<=postgresql://)|(?<=postgres://))[^\s/@:]*@[^\s/@]*(?:[\s/]|$))"
_USERINFO = re.compile(
    rf"(?i)\b([a-z][a-z0-9+.-]*://){_NAME_ALONE}"
    r"(?:[^\s/]*@|(?<=s3://)[^\s/@:]*:[^\s@]*@|[^\s/@:]+:(?!\d{1,5}/)[^\s@]*@)"
)
_QUERY = re.compile(rf"(?i)([?&;](?:[a-z0-9_-]*{_SECRET}|key|sig|auth)=)[^\s&;'\"]+")
_PAIR = re.compile(rf"(?i)\b((?:[a-z0-9_-]*{_SECRET})(?:=['\"]?|['\"]: ?['\"]))[^\s&;,'\"]+")
_HEADER = re.compile(
    r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|aws4-hmac-sha256)\s+)[^\s'\"]+"
)
_AWS = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")
_VARIABLE = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|KEY|CREDENTIALS?|AUTH_STRING)(?:_|$)|PASSWORD$|SECRET$"
)
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}
SHORTEST = 6  # a secret of fewer characters is not looked for by value: it would be found in every word


def redact(text: str) -> str:
    """The text with `***` in the place of every secret that its form or the environment gives away."""
    for value in _known():
        text = text.replace(value, HIDDEN)
    if "://" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_QUERY, _PAIR, _HEADER):
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return _AWS.sub(HIDDEN, text)


def _known() -> list[str]:
    """The secrets of the environment, in the forms in which a message may hold them, longest first."""
    found = set()
    for name, value in os.environ.items():
        if _VARIABLE.search(name.upper()):
            found.add(value)
        elif "@" in value and (match := _USERINFO.search(value)):
            user, colon, password = match[0].removeprefix(match[1])[:-1].partition(":")
            found.add(password if colon else user)
    found |= {unquote(value) for value in found}
    found |= {json.dumps(value)[1:-1] for value in found}
    return sorted((v for v in found if len(v) >= SHORTEST and not v.startswith("/")), key=len, reverse=True)


def holds_secret(uri: str) -> bool:
    """Whether a URI brings its own keys, as `s3://KEY:SECRET@bucket` or a presigned one does."""
    return "://" in uri and bool(_USERINFO.search(uri) or _QUERY.search(uri))


def shows_secret(text: str) -> bool:
    """Whether a text gives a secret away by its form: `password=...` as much as a URI with one."""
    return any(pattern.search(text) for pattern in (_USERINFO, _QUERY, _PAIR, _HEADER, _AWS))


def secrets_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in nested mappings and sequences a text is a URI with its own keys: the paths of keys to it."""
    if isinstance(value, str):
        if holds_secret(value):
            yield path
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(inner, (*path, key))
            if isinstance(key, str) and holds_secret(key):
                yield (*path, key)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from secrets_in(inner, (*path, number))


def link(uri: str) -> str:
    """A URI to click: host and path as they are, without what `redact` hides of them."""
    return redact(uri).replace(f"{HIDDEN}@", "")


def visible(text: str, *, keep: str = "") -> str:
    r"""Control characters as `\n`, `\u001b`: the notation of JSON, so that JSON stays what it was."""
    return _CONTROL.sub(lambda m: m[0] if m[0] in keep else _SHORT.get(m[0], _escape(m[0])), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: object, limit: int = LONGEST_LINE) -> str:
    """A value in one line of at most about `limit` characters; of a longer one the ends, and its length."""
    text = str(value)
    size = len(text)
    if size > LONGEST_LINE:
        text = text[:LONGEST_LINE]
    text = visible(redact(text))
    if size <= LONGEST_LINE and len(text) <= limit:
        return text
    head, tail = text[: limit * 2 // 3], "" if size > LONGEST_LINE else text[-(limit // 3) :]
    return f"{head}... ({size:,} characters) ...{tail}"


def shown_lines(text: str) -> str:
    """Text of several lines for a screen or a log, each as `shown`; line ends and tabs stay."""
    return "\n".join(
        visible(redact(line), keep="\t") if len(line) <= LONGEST_LINE else shown(line)
        for line in text.split("\n")
    )


def shown_error(error: BaseException) -> str:
    """The traceback of an error and of what led to it."""
    return shown_lines("".join(traceback.format_exception(error)))


def guard_logs() -> None:
    """From now on every log record of this process is as `shown_lines`, its traceback too.

    Lines after the first are set in, so that a line end in a name does not begin a record.
    """
    before = logging.getLogRecordFactory()
    if getattr(before, "shows", None) is shown_lines:
        return

    def make(*args: Any, **extra: Any) -> logging.LogRecord:
        record = before(*args, **extra)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # the handler tells of a message that does not fit its arguments
        told = shown_lines(text).replace("\n", "\n  ")
        if told != text:
            record.msg, record.args = told, ()
        if record.exc_info and record.exc_info[1]:
            record.exc_text = shown_error(record.exc_info[1])  # what formatters use instead of their own
        return record

    make.shows = shown_lines  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
