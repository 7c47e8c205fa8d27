"""The cleanup stage: raw files to clean documents."""
