"""Schedules of real engines held against simserve's own, step by step: the same workload, the same constant step, and the first difference.

workload   what both are asked                    kinds        random workloads: `workloads(engine, kinds, count, seed)`
engines/   drivers of real schedulers             schedule     what an engine did, and how it is recorded
fixture    both in a file                         ours         what simserve does under a profile (`instance`, `constant_steps`)
profiles   which profile stands for a version     difference   where two schedules part
compare    many workloads through both sides      report       a difference in words, a summary for a pull request
"""
