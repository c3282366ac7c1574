"""A gateway between chat users on WebSockets and a bot backend, the Concierge."""

__version__ = "0.1.0"
