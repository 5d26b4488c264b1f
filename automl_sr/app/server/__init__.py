"""Serving the page: what is let in, what is kept ready, and what runs beside the answers."""
