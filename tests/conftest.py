"""What all tests share: the peers, and patience."""

from hypothesis import settings

pytest_plugins = ["tests.peers.fixtures"]

# An example that takes longer than others says something of the machine, which may be busy.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
