"""Secrets of the app, through the real SDKs against the double."""

from __future__ import annotations

import pytest

from nbtoolkit import (
    SecretSettings,
    put_secret,
)
from nbtoolkit.errors import InvalidSettings, QuotaShort
from tests.support.azure_workspace import APP, AzurePlace
from tests.support.operated_app import (
    A100_QUOTA,
    MakePlace,
    app_properties,
    deploy_adapter,
    writes,
)
from tests.support.recording_progress import Told, until

CANARY = "hf_canary-0123456789abcdef"


def is_rolled_out(place: AzurePlace) -> bool:
    """Whether the newest revision has taken over."""
    now = place.target.app.get()
    return now.latest_ready_revision == now.latest_revision


def test_a_new_secret_keeps_all_others_and_starts_a_revision_that_reads_it(make_place: MakePlace) -> None:
    place, progress = make_place(), Told()
    deploy_adapter(place, "brave")
    key = place.target.endpoint().key.get_secret_value()
    put = put_secret(SecretSettings(name="hf-token", value=CANARY), target=place.target, progress=progress)
    assert str(put) == "HF_TOKEN was added; a new revision starts with it"
    assert place.target.app.secrets() == {"nbtoolkit-api-key": key, "hf-token": CANARY}
    [variable] = [
        one for one in app_properties(place)["template"]["containers"][0]["env"] if one["name"] == "HF_TOKEN"
    ]
    assert variable == {"name": "HF_TOKEN", "secretRef": "hf-token"}
    assert place.says() == "brave"
    shown = [repr(put), *progress.lines, str(place.target.status()), repr(SecretSettings(value=CANARY))]
    assert CANARY not in "\n".join(shown)
    assert CANARY not in repr(place.double.requests)
    files = [path for path in place.workspace.root.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_replaced_secret_restarts_running_servers(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    monkeypatch.setenv("HF_TOKEN", CANARY)
    put_secret(SecretSettings(), target=place.target)
    until(lambda: place.target.replicas(refresh=True))
    before = place.target.replicas(refresh=True)
    monkeypatch.setenv("HF_TOKEN", f"{CANARY}-2")
    place.forget_requests()
    put = put_secret(SecretSettings(), target=place.target)
    assert put.replaced
    assert "ready in some minutes" in str(put)
    assert writes(place)[0] == f"PATCH {APP}"
    assert set(writes(place)[1:]) == {"POST restart"}  # two where the newer revision is still taking over
    assert place.target.app.secrets()["hf-token"] == f"{CANARY}-2"
    until(lambda: (now := place.target.replicas(refresh=True)) and not set(now) & set(before))


def test_a_sleeping_app_is_not_woken_for_a_replaced_secret(make_place: MakePlace) -> None:
    place = make_place()
    put_secret(SecretSettings(value=CANARY), target=place.target)
    until(lambda: is_rolled_out(place))
    place.double.apps.scale_to_zero(APP)
    place.forget_requests()
    put = put_secret(SecretSettings(value="another"), target=place.target)
    assert str(put) == "HF_TOKEN was replaced; nothing runs, so the next start reads it"
    assert writes(place) == [f"PATCH {APP}"]
    assert place.target.status().state == "asleep"
    assert place.double.apps.ingress_requests(APP) == 0


def test_a_secret_that_needs_an_unavailable_gpu_changes_nothing(make_place: MakePlace) -> None:
    place = make_place(gpu=True, least=1)
    until(lambda: place.target.replicas(refresh=True))
    place.double.apps.quota.limits[A100_QUOTA] = 1
    place.forget_requests()
    with pytest.raises(QuotaShort):
        put_secret(SecretSettings(value=CANARY), target=place.target)
    assert writes(place) == []
    put_secret(SecretSettings(value=CANARY, allow_downtime=True), target=place.target)
    assert writes(place) == [f"PATCH {APP}", "POST stop", f"PATCH {APP}", "POST start"]


def test_a_secret_without_a_value_is_refused_with_its_sources(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    place.forget_requests()
    with pytest.raises(InvalidSettings, match="The secret HF_TOKEN has no value") as missing:
        put_secret(SecretSettings(), target=place.target)
    assert "type it into the form" in missing.value.next_step
    assert not place.double.requests
    with pytest.raises(InvalidSettings, match="letters, digits and _"):
        SecretSettings(name="my secret!")
