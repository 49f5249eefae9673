"""What chat templates do, asked for its size before it is done. No jinja2 in here.

Each guard raises what ``Budget`` raises for what is too much, and otherwise leaves the work, and whatever else may be
wrong with the arguments, to the real thing.
"""
