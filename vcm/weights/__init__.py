"""Weights on disk: which there are, and how each kind of file is read with care. The shipped ones lie here.

- ``registry``: names, paths and fingerprints, from file headers only; imports neither torch nor numpy
- ``tensors``: safetensors files, checked against a layout; ``state``: other people's weights
- ``codec_file``, ``twin_file``: what a codec's and a pixel twin's file hold
"""
