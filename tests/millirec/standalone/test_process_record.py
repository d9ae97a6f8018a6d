"""Other commands find a running deployment by the record in its data folder."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from millirec.commands import probe
from millirec.standalone.process_record import ProcessRecord, SupervisorRecord, path_in, running_url, write_record
from recsys.errors import Unavailable


def test_a_running_deployment_says_where_its_service_answers(tmp_path: Path) -> None:
    write_record(tmp_path, [ProcessRecord("serve", "serve.log", 1, url="http://127.0.0.1:8123")])
    assert running_url(tmp_path, "serve") == "http://127.0.0.1:8123"
    assert running_url(tmp_path, "console") is None


def test_what_a_killed_deployment_left_behind_and_an_older_record_name_no_address(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    record = SupervisorRecord(int(ended.stdout), [ProcessRecord("serve", "serve.log", url="http://127.0.0.1:8123")])
    path_in(tmp_path).write_bytes(msgspec.json.encode(record))
    assert running_url(tmp_path, "serve") is None
    write_record(tmp_path, [ProcessRecord("serve", "serve.log")])
    assert running_url(tmp_path, "serve") is None


def test_a_probe_of_a_folder_where_nothing_runs_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLIREC_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"millirec up --data {tmp_path}.*--url"):
        probe.freshness(api_key="k" * 32)
