"""Read-only operations send no request to the endpoint, so an app at zero replicas stays at zero."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit import (
    ProvisionSettings,
    SecretSettings,
    TeardownSettings,
    deploy,
    links,
    provision,
    put_secret,
    teardown,
)
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import plan, preflight
from tests.fault_matrix.deploy_steps import ServedApp
from tests.fault_matrix.fast_azure import fast_azure
from tests.fault_matrix.steps import close_clouds, new_cloud


@pytest.fixture(scope="module")
def app_at_zero(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """An app that served requests and was scaled to zero."""
    root: Path = tmp_path_factory.mktemp("asleep")
    with fast_azure(root) as double:
        serving = ServedApp(double, root)
        deploy(serving.settings, target=serving.target())
        serving.scale_to_zero()
        yield serving
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


@pytest.fixture
def unchanged_app(app_at_zero: ServedApp) -> Iterator[ServedApp]:
    """The app; the fixture asserts that the test did not wake it."""
    apps, name = app_at_zero.double.apps, app_at_zero.names.app
    before, since = apps.ingress_requests(name), len(app_at_zero.double.requests)
    yield app_at_zero
    sent = [
        seen for seen in app_at_zero.double.requests[since:] if seen.host.endswith(".azurecontainerapps.io")
    ]
    assert sent == []
    assert apps.ingress_requests(name) == before
    assert apps.app(name).replicas() == []
    assert len(app_at_zero.double.requests) > since, "no request was sent"


def _settings(app: ServedApp) -> ProvisionSettings:
    return ProvisionSettings(
        subscription=app.names.subscription, resource_group=app.names.resource_group, gpu="none"
    )


def test_status_does_not_wake_the_app(unchanged_app: ServedApp) -> None:
    assert unchanged_app.target().status().state == "asleep"


def test_logs_do_not_wake_the_app(unchanged_app: ServedApp) -> None:
    assert any("Revision" in line for line in unchanged_app.target().logs(tail=300))


def test_followed_logs_do_not_wake_the_app(unchanged_app: ServedApp) -> None:
    before = len(unchanged_app.double.requests)

    class CancelWhenFollowed(Progress):
        def check(self) -> None:
            if any(seen.query.get("follow") == "true" for seen in unchanged_app.double.requests[before:]):
                self.cancel()
            super().check()

    with pytest.raises(Cancelled):
        list(unchanged_app.target().logs(follow=True, progress=CancelWhenFollowed()))


def test_preflight_does_not_wake_the_app(unchanged_app: ServedApp) -> None:
    found = preflight(_settings(unchanged_app), cloud=new_cloud(), workspace=unchanged_app.workspace)
    assert found.blockers == ()


def test_plan_and_provision_without_changes_do_not_wake_the_app(unchanged_app: ServedApp) -> None:
    assert plan(_settings(unchanged_app), workspace=unchanged_app.workspace, cloud=new_cloud()).nothing_to_do
    assert not provision(
        _settings(unchanged_app), workspace=unchanged_app.workspace, cloud=new_cloud()
    ).changed


def test_links_and_a_teardown_plan_do_not_wake_the_app(unchanged_app: ServedApp) -> None:
    assert unchanged_app.names.app in str(links(unchanged_app.target()))
    planned = teardown(TeardownSettings(scope="all"), workspace=unchanged_app.workspace, cloud=new_cloud())
    assert not planned.done


def test_replacing_a_secret_does_not_wake_the_app(unchanged_app: ServedApp) -> None:
    secret = SecretSettings(name="NBTOOLKIT_API_KEY", value="nbt-another-key-0123456789")
    assert "the next start reads it" in put_secret(secret, target=unchanged_app.target()).effect
