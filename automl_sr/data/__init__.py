"""Images: reading and writing, named sets, downloads, checks and overlaps."""
