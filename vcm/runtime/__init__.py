"""Networks behind one seam: named numpy arrays in, numpy arrays out. What calls them needs no tensor library."""
