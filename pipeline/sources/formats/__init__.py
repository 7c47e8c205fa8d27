"""The forms of raw files, one file each: `pipeline.sources.raw` chooses among them."""
