"""What is measured of a model and how: tasks, their data, likelihoods, metrics and intervals."""
