"""What is left out of a set: a line of its file of rejects."""

import msgspec


class Rejection(msgspec.Struct, frozen=True):
    """Why a text is no document or no conversation, and where it stood."""

    reason: str
    where: str = ""
    detail: str = ""
