"""The disk tier: files of segments, the directory that holds them, and the one thread that works on both."""
