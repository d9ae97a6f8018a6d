"""Seam: app (and outside producers) write interactions, ingest reads them."""

from recsys.errors import InvalidInput
from recsys.settings import StoreSettings, TopicBackend, TopicSettings
from recsys.stores.topic.protocol import Delivered, InteractionTopic, Outgoing, TopicConsumer, TopicProducer

__all__ = ["Delivered", "InteractionTopic", "Outgoing", "TopicConsumer", "TopicProducer", "open_interaction_topic"]


def open_interaction_topic(topic: TopicSettings, store: StoreSettings) -> InteractionTopic:
    """The topic that `topic.backend` names; connects on first use."""
    if topic.backend is TopicBackend.KAFKA:
        from recsys.stores.topic.kafka import KafkaTopic

        return KafkaTopic(topic)
    if topic.backend is TopicBackend.REDIS:
        from recsys.stores.topic.redis_stream import RedisStreamTopic

        return RedisStreamTopic(topic, store)
    raise InvalidInput("topic.backend", "the memory topic lives inside one process; construct MemoryTopic there")
