"""For tests of code that reads, writes or extends VCM files: what a codec must keep, and what to try it with.

- :mod:`vcm.testing.strategies`: Hypothesis strategies for headers, layers, whole files, damage, symbols, pictures,
  detections. Needs ``hypothesis``.
- :mod:`vcm.testing.codecs`: :func:`~vcm.testing.codecs.check_codec`, what every image codec of an evaluation must keep.

Nothing in ``vcm`` imports this package.
"""
