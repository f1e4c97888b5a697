"""The dealer agent: the program at the point of sale. It dials out to its hubs, keeps prices, messages and receipts, and goes on without the line."""
