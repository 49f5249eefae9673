"""A surface is one interface that clients speak: its routes, its parameters, and the bytes of its answers.

Everything in here is free of I/O but for the answers of ``AnswerRoute``. What a stream needs (pings, disconnects,
deadlines, drain) is done for all surfaces by ``core``. A new surface is a ``Surface`` in a module of its own, and a
line in ``table.py``.
"""
