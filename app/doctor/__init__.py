"""Why a job ended as it did, and what helps."""
