"""A client of any server that speaks the OpenAI protocol, and our own server as a child."""
