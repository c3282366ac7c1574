"""Load and faults for as long as you like, after which nothing may be missing: `make soak`."""
