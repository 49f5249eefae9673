"""The engine process: sole owner of the device. It sees token ids and numbers, never text and never JSON-RPC."""
