"""Settings of the data tests."""

from hypothesis import settings

# A busy machine makes single examples slow; pytest-timeout bounds whole tests instead.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
