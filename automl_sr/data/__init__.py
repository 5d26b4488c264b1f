"""Images: reading and writing, bicubic resizing, named sets, samples held in memory, training
batches, overlaps.
"""
