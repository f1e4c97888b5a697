"""The only place that knows everything: configuration, wiring, process roles, supervision, command line. No rules."""
