"""What is good once: links, requests to be let in with one, challenges, touches."""
