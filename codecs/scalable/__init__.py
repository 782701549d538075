"""The scalable model ``vcm-s``: a base layer for machines, an enhancement layer for people."""
