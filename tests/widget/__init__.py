"""Tests of the widget: its modules under node, and all of it in a real Chromium."""
