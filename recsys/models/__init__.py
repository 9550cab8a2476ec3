"""Torch modules and losses: no I/O, no device choice, no Horovod.

Import from the modules: Spark's workers take ``ranking_fields`` alone, without torch.
"""
