"""What a service allows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from vcm.errors import OptionError

__all__ = ["ServiceOptions"]


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Limits of a service.

    Attributes:
        token: what a client must send (``Authorization: Bearer TOKEN``); ``None``: nothing.
        max_upload_bytes: longest file that is taken.
        max_pixels: most pixels of a picture that is taken.
        upload_seconds: in which a file must have arrived.
        header_seconds: in which the head of a request must have arrived.
        rate: requests a second of each client, on average over some seconds; 0: any number.
        jobs: pictures that are coded or decoded at once.
        waiting: requests that wait for that; further ones are answered with 503.
        read_only: no picture is taken.

    Raises:
        OptionError: a limit is out of range, or the token empty.
    """

    token: str | None = field(default=None, repr=False)
    max_upload_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    upload_seconds: float = 30.0
    header_seconds: float = 10.0
    rate: float = 200.0
    jobs: int = 2
    waiting: int = 64
    read_only: bool = False

    def __post_init__(self) -> None:
        for name in ("max_upload_bytes", "max_pixels", "jobs", "waiting"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is out of range", expected="at least 1", found=getattr(self, name))
        for name in ("upload_seconds", "header_seconds"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is out of range", expected="above 0", found=getattr(self, name))
        if not self.rate >= 0:
            raise OptionError("rate is out of range", expected="at least 0", found=self.rate)
        if self.token is not None and not self.token:
            raise OptionError("the token is empty", expected="text")

    def admits(self, token: str | None) -> bool:
        """Whether a client that sends this may come in. Takes as long for every wrong token of a length."""
        if self.token is None:
            return True
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())
