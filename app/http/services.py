"""Services: everything that the routes work with."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.http.cursor import Cursors
from app.http.expressions import Expressions
from app.http.turns import Turns
from app.serving.answerer import Answerer
from app.serving.micro_batcher import MicroBatcher
from app.settings import ServeSettings
from app.spool.producer import InteractionProducer
from app.versions.index_watcher import IndexWatcher
from app.versions.live_index import LiveIndex
from app.versions.placement_watcher import PlacementWatcher
from recsys.recommender.placement import Placement
from recsys.settings import TimeBounds
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.online import Stores
from recsys.stores.receipts import ErasureReceipts
from recsys.stores.settings_log import SettingsLog


@dataclass(frozen=True, slots=True)
class Services:
    """Everything `create_app` built, for the routes."""

    settings: ServeSettings
    turns: Turns
    expressions: Expressions
    bounds: TimeBounds
    cursors: Cursors
    answerer: Answerer
    batcher: MicroBatcher
    live_index: LiveIndex
    watcher: IndexWatcher
    producer: InteractionProducer
    stores: Stores
    registry: ModelRegistry
    settings_log: SettingsLog
    placement_watcher: PlacementWatcher
    receipts: ErasureReceipts

    def placements(self) -> Mapping[str, Placement]:
        """The placements in force now, by name."""
        return self.placement_watcher.current
