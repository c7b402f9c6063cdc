"""All requests of a source, known before any is sent: 16 bytes each, and which of them the ledger lacks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.regenerate.asking import Ask
from tokenmill.pipeline.regenerate.ledger import Known
from tokenmill.pipeline.regenerate.prompts import PromptPart, body_of, prompts_of, request_hash
from tokenmill.pipeline.storage import Storage


@dataclass(frozen=True, eq=False)
class Plan:
    """What is asked for a source.

    Attributes:
        storage: the run's folder.
        settings: of its requests.
        parts: its parts.
        requests: of each part: binary16, those of a prompt's samples one after another; none of what is not asked.
    """

    storage: Storage
    settings: Regenerate
    parts: Sequence[PromptPart]
    requests: Sequence[pa.Array]

    @property
    def every_request(self) -> pa.Array:
        """Of all parts; what two documents ask alike stands there twice."""
        return pa.concat_arrays([pa.array([], pa.binary(16)), *self.requests])

    def lacking(self, known: Known) -> set[bytes]:
        """The requests that have no answer yet."""
        every = self.every_request
        return set(every.filter(pa.array(~known.answered(every))).to_pylist())

    def asks(self, lacking: set[bytes]) -> Iterator[list[Ask]]:
        """Those requests, each once, in the order of parts and rows."""
        left = set(lacking)
        for part, requests in zip(self.parts, self.requests, strict=True):
            if left.isdisjoint(requests.to_pylist()):
                continue
            for prompts in prompts_of(self.storage, part, self.settings.choose):
                found: list[Ask] = []
                for prompt in prompts:
                    for sample in range(self.settings.samples) if prompt.dropped is None else ():
                        body = body_of(self.settings, prompt, sample)
                        request = request_hash(body, sample)
                        if request in left:
                            left.remove(request)
                            found.append(Ask(request, prompt.document, sample, body))
                yield found
        assert not left, f"{len(left)} requests were planned and not found again"


def plan_requests(
    storage: Storage, settings: Regenerate, parts: Sequence[PromptPart], name: str, show: Reporter
) -> Plan:
    """Look through all prompts of source `name`.

    Raises:
        ValueError: a prompt wants a checker that there is not.
    """
    requests: list[pa.Array] = []
    for number, part in enumerate(parts):
        found: list[bytes] = []
        for prompts in prompts_of(storage, part, settings.choose):
            for prompt in prompts:
                if prompt.dropped is None:
                    bodies = (body_of(settings, prompt, sample) for sample in range(settings.samples))
                    found += [request_hash(body, sample) for sample, body in enumerate(bodies)]
        requests.append(pa.array(found, pa.binary(16)))
        show.step(f"prompts of {name}", number + 1, len(parts))
    return Plan(storage, settings, parts, requests)
