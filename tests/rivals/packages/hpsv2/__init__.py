"""Stands in for hpsv2 1.2.0: the module that scores, its model and transforms, with a checkpoint that is small."""
