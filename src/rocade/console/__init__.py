"""Web pages: server-rendered, live by server-sent events."""
