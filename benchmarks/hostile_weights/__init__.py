"""Model directories that strangers might hand us, by the thousand, each beside a stream that must not notice."""
