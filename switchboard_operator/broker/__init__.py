"""Carry postbacks to the instance, or instances, that hold their users' sockets."""
