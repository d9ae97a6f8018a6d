"""Heartbeats: what running processes say of themselves."""

from recsys.stores.heartbeats.protocol import FORGOTTEN_SECONDS, SILENT_SECONDS, Heartbeat, HeartbeatStore, Instance
from recsys.stores.heartbeats.reporter import REPORT_SECONDS, Reporter, process_name

__all__ = [
    "FORGOTTEN_SECONDS",
    "REPORT_SECONDS",
    "SILENT_SECONDS",
    "Heartbeat",
    "HeartbeatStore",
    "Instance",
    "Reporter",
    "process_name",
]
