"""Schedules of real engines held against simserve's own, step by step: the same workload, the same constant step, and the first difference.

workload   what both are asked          schedule   what an engine did, and how it is recorded
fixture    both in a file               ours       what simserve does under a profile
engines/   drivers of real schedulers   report     a difference in words, a summary for a pull request
"""
