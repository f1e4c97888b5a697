"""Protocol servers: authenticate, frame, apply back-pressure, hand over to the handler they were given."""
