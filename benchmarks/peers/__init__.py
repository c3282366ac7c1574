"""Programs that speak the gateway's contract, and nothing more: what it is compared with."""
