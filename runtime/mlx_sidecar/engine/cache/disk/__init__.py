"""The disk tier: files of segments, the directory they lie in, and the one thread that deals with both."""
