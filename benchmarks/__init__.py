"""What is measured rather than asserted: long runs and speed."""
