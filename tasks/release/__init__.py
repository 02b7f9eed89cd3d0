"""The project's own collection of zoos: its plan, its units, its card, and the push to the Hub."""
