"""The embedded default: everything the five steps need on a machine without GPU, weights or network."""
