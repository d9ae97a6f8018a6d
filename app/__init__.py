"""The online service: answers `/recommend` from the live index and puts interactions on the topic."""
