"""Where studies live: one database and one place for files."""
