"""The SDK's front: load a codec or open a file, encode pictures, run tasks on base layers, decode pictures."""

from vcm.api.codec import Codec
from vcm.api.cost import Cost
from vcm.api.decoding import PictureRows
from vcm.api.load import load
from vcm.api.many import Outcome
from vcm.api.opened import OpenFile, open
from vcm.api.rate import RateWarning
from vcm.api.sources import StreamSource

__all__ = ["Codec", "Cost", "OpenFile", "Outcome", "PictureRows", "RateWarning", "StreamSource", "load", "open"]
