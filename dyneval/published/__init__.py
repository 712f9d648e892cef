"""The files of the public DynEval data set: read into our records, and written from them."""
