"""Who only looks wakes nothing: an app at zero replicas stays there, and its host name is never asked."""

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
def asleep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """An app that served and went to sleep."""
    root: Path = tmp_path_factory.mktemp("asleep")
    with fast_azure(root) as double:
        serving = ServedApp(double, root)
        deploy(serving.settings, target=serving.target())
        serving.scale_to_zero()
        yield serving
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


@pytest.fixture
def at_rest(asleep: ServedApp) -> Iterator[ServedApp]:
    """The app, which must be unchanged afterwards."""
    apps, name = asleep.double.apps, asleep.names.app
    before, since = apps.ingress_requests(name), len(asleep.double.requests)
    yield asleep
    sent = [seen for seen in asleep.double.requests[since:] if seen.host.endswith(".azurecontainerapps.io")]
    assert sent == []
    assert apps.ingress_requests(name) == before
    assert apps.app(name).replicas() == []
    assert len(asleep.double.requests) > since, "no request was sent"


def _settings(app: ServedApp) -> ProvisionSettings:
    return ProvisionSettings(
        subscription=app.names.subscription, resource_group=app.names.resource_group, gpu="none"
    )


def test_status_wakes_nothing(at_rest: ServedApp) -> None:
    assert at_rest.target().status().state == "asleep"


def test_logs_wake_nothing(at_rest: ServedApp) -> None:
    assert any("Revision" in line for line in at_rest.target().logs(tail=300))


def test_followed_logs_wake_nothing(at_rest: ServedApp) -> None:
    before = len(at_rest.double.requests)

    class CancelWhenFollowed(Progress):
        def check(self) -> None:
            if any(seen.query.get("follow") == "true" for seen in at_rest.double.requests[before:]):
                self.cancel()
            super().check()

    with pytest.raises(Cancelled):
        list(at_rest.target().logs(follow=True, progress=CancelWhenFollowed()))


def test_preflight_wakes_nothing(at_rest: ServedApp) -> None:
    found = preflight(_settings(at_rest), cloud=new_cloud(), workspace=at_rest.workspace)
    assert found.blockers == ()


def test_plan_and_a_provision_that_finds_nothing_to_do_wake_nothing(at_rest: ServedApp) -> None:
    assert plan(_settings(at_rest), workspace=at_rest.workspace, cloud=new_cloud()).nothing_to_do
    assert not provision(_settings(at_rest), workspace=at_rest.workspace, cloud=new_cloud()).changed


def test_links_and_the_plan_of_a_teardown_wake_nothing(at_rest: ServedApp) -> None:
    assert at_rest.names.app in str(links(at_rest.target()))
    planned = teardown(TeardownSettings(scope="all"), workspace=at_rest.workspace, cloud=new_cloud())
    assert not planned.done


def test_replacing_a_secret_wakes_nothing(at_rest: ServedApp) -> None:
    secret = SecretSettings(name="NBTOOLKIT_API_KEY", value="nbt-another-key-0123456789")
    assert "the next start reads it" in put_secret(secret, target=at_rest.target()).effect
