"""Weights on disk: which there are, and how each kind of file is read with care. The shipped ones lie here.

- ``registry``: names, paths and fingerprints, from file headers only; imports neither torch nor numpy
- ``safetensors_file``: any weights file, opened and checked against a layout; ``tensors``: the same for torch;
  ``state``: other people's weights
- ``integers``: bounds of integer networks; ``metadata``: what a file claims to be
- ``head_metadata``, ``twin_tensors``: what a head's and a pixel twin's file hold, without a tensor library
- ``codec_file``, ``twin_file``, ``head_file``: a codec's, a pixel twin's and a head's file for torch
- ``onnx_file``, ``onnx_twin``, ``onnx_head``: the same for onnxruntime, without torch
"""
