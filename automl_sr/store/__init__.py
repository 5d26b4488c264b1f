"""Where studies live: one database and one artifact location."""
