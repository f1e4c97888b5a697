"""Programs that run elsewhere: the reference vehicle agent."""
