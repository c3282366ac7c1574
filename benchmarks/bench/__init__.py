"""How fast the gateway is, next to what most would write instead, on this machine: `make bench`."""
