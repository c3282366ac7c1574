"""A small Concierge of our own, to try the switchboard with."""

from switchboard_operator.demo.concierge import DemoConcierge, demo_variables

__all__ = ["DemoConcierge", "demo_variables"]
