"""Jobs and the doctor."""
