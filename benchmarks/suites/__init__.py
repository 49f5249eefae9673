"""Other projects' test suites, run against the gateway by hand. They are fetched when they run; none is in here."""
