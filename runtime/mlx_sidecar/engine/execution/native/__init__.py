"""The step of a decoder on a Linux CPU in native code, for models of the llama family."""
