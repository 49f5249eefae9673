"""The disk tier: files of extents, the directory they lie in, and the one thread that deals with both."""
