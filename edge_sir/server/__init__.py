"""The HTTP server for clients that speak OpenAI's API; needs `pip install 'edge-sir[server]'`."""
