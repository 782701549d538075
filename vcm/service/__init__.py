"""An archive over HTTP: what is in pictures from their bases, pixels when somebody looks, and a page for people."""

from vcm.service.app import build_app
from vcm.service.options import ServiceOptions
from vcm.service.server import serve

__all__ = ["ServiceOptions", "build_app", "serve"]
