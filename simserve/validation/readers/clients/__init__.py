"""The result files of benchmark clients, one module a client: the load it made and what it measured.

Each says how a load is read from the fields of its files. What is not understood makes the run one that is skipped with that reason, never
one that is simulated as something else.
"""
