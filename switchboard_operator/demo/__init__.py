"""A small Concierge of our own, to try the switchboard with."""

from pathlib import Path

from switchboard_operator.demo.concierge import DemoConcierge, demo_variables

PLAYGROUND = Path(__file__).with_name("playground")  # the chat page that the demo shows

__all__ = ["PLAYGROUND", "DemoConcierge", "demo_variables"]
