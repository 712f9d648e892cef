"""Stands in for torchmetrics 1.9: CLIP-IQA, whose `compute` drops the dimension of a single image."""
