"""The processes in front of an instance's scheduler: API servers, which take requests in one after the other and send their tokens out."""

from __future__ import annotations

from heapq import heapreplace

from simserve.engine.spec import InstanceSpec


class FrontEnd:
    """`api_servers` processes with one queue, first come, first served; without any, every request passes in its own time.

    A request is `request_s` and its prompt tokens of work (HTTP, tokenising, passing it on), and is seen by the scheduler when that is
    done. On top of it a request is `request_delay_s` on its way, in which no server works.

    An answer's tokens are work too (`request_per_output_token_s`: text from tokens, a chunk on the wire), which a server does as they come.
    One that has nothing else to do has done it when the answer ends; one that is behind with requests has that much more to do.

    A request that comes alone passes as if there were no queue: the servers change nothing until they have too much to do.
    """

    __slots__ = ("_delay_s", "_free_s", "_per_output_token_s", "_per_prompt_token_s", "_request_s")

    def __init__(self, spec: InstanceSpec) -> None:
        self._request_s = spec.request_s
        self._delay_s = spec.request_delay_s
        self._per_prompt_token_s = spec.request_per_prompt_token_s
        self._per_output_token_s = spec.request_per_output_token_s
        self._free_s = [0.0] * spec.api_servers  # a heap: when each server has done what it has

    def passed_s(self, now: float, prompt_tokens: int) -> float:
        """When a request that comes now is seen by the scheduler, seconds."""
        work_s = self._request_s + self._per_prompt_token_s * prompt_tokens
        free_s = self._free_s
        if not free_s or not work_s:
            return now + (work_s + self._delay_s)
        done_s = (now if now > free_s[0] else free_s[0]) + work_s
        heapreplace(free_s, done_s)
        return done_s + self._delay_s

    def sent(self, now: float, output_tokens: int) -> None:
        """An answer has ended: a backlog, if there is one, is longer by the work of its tokens."""
        free_s = self._free_s
        if free_s and free_s[0] > now:
            heapreplace(free_s, free_s[0] + self._per_output_token_s * output_tokens)
