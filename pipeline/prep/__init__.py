"""The prepare stage: clean documents to token shards."""
