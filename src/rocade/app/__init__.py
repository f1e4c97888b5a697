"""The only place that knows everything: configuration, wiring, process roles, command line."""
