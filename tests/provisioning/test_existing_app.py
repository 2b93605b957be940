"""Differences between an existing app and the settings."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.provisioning.existing_app import app_changes
from tests.support.app_json import APP, app_with, settings


def test_a_scale_rule_without_a_number_of_requests_has_azures_default() -> None:
    for http in ({}, {"metadata": {}}, {"metadata": {"concurrentRequests": "10"}}):
        app = AppState(app_with(template={"scale": {"rules": [{"name": "http", "http": http}]}}))
        assert app.scale["concurrent_requests"] == 10


def test_app_changes_names_differences_and_not_additions_of_others() -> None:
    app = AppState(APP)
    assert app_changes(settings(), app, "theirs", "img:1") == []
    found = app_changes(settings(max_replicas=3, environment_variables={"MINE": "2"}), app, "theirs", "img:2")
    assert found == ["image: img:1 → img:2", "maximum replicas: 1 → 3", "variable MINE: 1 → 2"]
