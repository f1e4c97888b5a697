"""What an agent's SQLite files need to find out turned bits: sums of rows, and the chain of the write-ahead file."""
