"""The board: the pipeline, its jobs, the machine, the next step."""
