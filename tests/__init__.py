"""Tests: real sockets and processes; only the Concierge is a fake."""
