"""More than can be answered in time: those who are let in are answered, the others are told to come back."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import refused_for_now
from tests.faults.tcp_proxy import proxying
from tests.faults.test_drain import USERS, serving

LIMIT = 2


def test_beyond_the_limit_requests_are_shed_and_health_is_not(
    valkey_url: str, store_settings: StoreSettings, tmp_path: Path
) -> None:
    with proxying(valkey_url.removeprefix("unix://")) as proxy:
        slow = store_settings.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{proxy.port}")})
        with (
            serving(slow, tmp_path, MILLIREC_SERVE__MAX_IN_FLIGHT=str(LIMIT)) as made,
            ThreadPoolExecutor(len(USERS)) as people,
            httpx.Client(base_url=made.url, timeout=10.0) as client,
        ):
            proxy.delays(0.5)
            paths = [f"/recommend?user_id={user}" for user in USERS]
            pending = [people.submit(client.get, path) for path in paths]
            for path in ("/health/live", "/health/ready", "/metrics", "/versions"):
                assert client.get(path).status_code == 200
            answers = [one.result() for one in pending]
            proxy.passes()
            statuses = Counter(one.status_code for one in answers)
            assert statuses.keys() == {200, 503}
            assert statuses[200] >= LIMIT
            for one in answers:
                if one.status_code == 503:
                    refused_for_now(one)
            shed = f"millirec_requests_shed_total {statuses[503]}.0"
            wait_until_sync(lambda: shed in client.get("/metrics").text, 10.0)
            assert {client.get(path).status_code for path in paths} == {200}
