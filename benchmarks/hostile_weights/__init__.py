"""Thousands of damaged model directories of many architectures, each beside a stream that must not notice."""
