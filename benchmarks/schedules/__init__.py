"""Schedules of real engines' schedulers, recorded afresh.

    python -m benchmarks.schedules record --engine vllm --version 0.24.0 [--version ...] [--count 300] [--seed 0] [--kinds tight,...]
    python -m benchmarks.schedules verify
    python -m benchmarks.schedules hold FOLDER

record   builds a scratch environment for each version (its wheel without dependencies, torch for CPUs, the few packages that its
         scheduler imports), runs random workloads through its scheduler there and puts what it did into tests/conformance/fixtures
         (--into), one file a kind; what is recorded of other versions stays where the workloads are the same. Without --version: all
         that are listed (`environments.VERSIONS`). Needs a package index, about 2 GB on disk (--scratch, kept for the next time), no GPU
verify   holds all fixtures against simserve and writes simserve/config/verified_schedules.yaml, which results show
hold     holds recorded schedules against simserve; exit code 1 where a kind is less equal than that file says
"""
