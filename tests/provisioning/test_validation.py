"""Settings that cannot work are blockers without a request."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.provisioning import (
    blockers,
)
from tests.support.app_json import settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"subscription": ""}, "No subscription is chosen"),
        ({"subscription": "My subscription"}, "enter its id, not its name"),
        ({"resource_group": ""}, "No resource group is chosen"),
        ({"create_resource_group": True}, "needs a region"),
        ({"storage_account": "My-Account"}, "storage_account is 'My-Account': Azure requires 3 to 24"),
        ({"app": "my--app"}, "app is 'my--app'"),
        ({"min_replicas": 3}, "must not exceed the maximum"),
        ({"gpu": "none", "engine": "vllm"}, "vLLM needs a GPU"),
        ({"gpu": "none", "quantization": "nf4"}, "nf4 needs a GPU"),
        ({"registry_username": "u"}, "set registry_server"),
        ({"registry_server": "r.io", "registry_username": "u"}, "user name and password together"),
        (
            {
                "registry_server": "r.io",
                "registry_username": "u",
                "registry_password": "p",
                "registry_identity": "i",
            },
            "not both",
        ),
        ({"environment_variables": {"HF_TOKEN": "x"}}, "looks like a secret"),
        ({"secrets": ["no-name"]}, "not a valid name of an environment variable"),
    ],
)
def test_invalid_settings_are_blockers_without_a_request(values: dict[str, Any], sentence: str) -> None:
    assert any(sentence in found for found in blockers(settings(**values)))
    assert blockers(settings()) == []
