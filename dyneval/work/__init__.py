"""Steps on a Ray cluster: the driver keeps the files, actors on any machine do the work."""
