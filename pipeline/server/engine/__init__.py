"""Models, queues and answers, without HTTP."""
