"""What is there: machines, services, stores, demand, and how to read them from a file."""
