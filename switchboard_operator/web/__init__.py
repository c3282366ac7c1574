"""The edge: HTTP and WebSocket handlers, in aiohttp's terms."""
