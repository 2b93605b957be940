"""Find secrets in a text, so that they are not written into a file that is sent with a release."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from pydantic import SecretStr

_PATTERNS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a Google API key": r"\bAIza[\w-]{35}",
    "an Azure key": r"(?i)\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}",
    "an Azure SAS signature": r"(?i)[?&]sig=[A-Za-z0-9%+/]{40,}",
    "a JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
_SECRET_VARIABLE = re.compile(r"(^|_)(key|token|secret|password|passwd|pat)(_|$)", re.I)
_MIN_LENGTH = 12
"""Shorter values of variables are words, flags or paths too often."""


def find_secret(
    text: str, known: Iterable[SecretStr] = (), environment: Mapping[str, str] = os.environ
) -> str:
    """Return what kind of secret is in a text, never the secret itself; an empty text if there is none.

    Found are the ``known`` values, the values of variables such as ``HF_TOKEN``, and the formats of
    common tokens and keys.
    """
    for secret in known:
        if _contains(text, secret.get_secret_value()):
            return "the key of the endpoint"
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= _MIN_LENGTH and _contains(text, value):
            return f"the value of the variable {name}"
    return next((kind for kind, pattern in _PATTERNS.items() if re.search(pattern, text)), "")


def _contains(text: str, secret: str) -> bool:
    return bool(secret) and (secret in text or quote(secret, safe="") in text)
