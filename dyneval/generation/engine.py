"""Getting every image out of a model: smaller batches when memory runs out, single requests when a batch fails.

The engine turns requests into results (a record whose files are in place, or why there is none) and knows nothing of
other workers or of what was there before. Encoding, hashing and writing run in threads while the model draws on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dyneval.generation import saving
from dyneval.generation.model import BatchTooLarge, ImageModel, ImageRequest, ModelBroken, NoImage, Outcome
from dyneval.generation.saving import ImageFormat
from dyneval.records import PairRecord

log = logging.getLogger(__name__)

Result = PairRecord | NoImage

FAILURES_IN_A_ROW = 10
"""So many unexpected failures in a row are taken for a broken model, not for bad prompts."""


@dataclass(kw_only=True)
class DrawingLoop:
    """A loaded model and the folder it draws into.

    Attributes:
        settings: what was asked of the model, recorded with each image.
        batch_size: halved for good when a batch does not fit into memory.
    """

    model: ImageModel
    slug: str
    root: Path
    settings: Mapping[str, Any]
    image_format: ImageFormat = "png"
    batch_size: int
    _failures: int = field(default=0, init=False)

    def run(self, requests: Iterable[ImageRequest]) -> Generator[Result, None, None]:
        """Yield one result for each request, in any order, when its files are in place.

        Raises:
            ModelBroken: nothing more can come from this model; what it drew until then has been yielded.
            OSError: an image cannot be written (disk full).
        """
        source = iter(requests)
        writing: deque[Future[Result]] = deque()
        stopped: BaseException | None = None
        with ThreadPoolExecutor(2) as pool:
            try:
                while batch := list(islice(source, self.batch_size)):
                    begun = time.monotonic()
                    for outcome in self._attempt(batch):
                        self._count(outcome)
                        writing.append(pool.submit(self._keep, outcome))
                        # Bounded, so that a model faster than the disk does not fill the memory with images.
                        while writing and (writing[0].done() or len(writing) > 8):
                            yield writing.popleft().result()
                    # While the next batch is drawn nothing is yielded, and a kill would cost this one too. A model that
                    # takes its time can wait for the disk; for a fast one a fiftieth of its time is all it may cost.
                    wait(writing, timeout=(time.monotonic() - begun) / 50)
                    while writing and writing[0].done():
                        yield writing.popleft().result()
            except (Exception, KeyboardInterrupt) as error:
                stopped = error
        while writing:
            written = writing.popleft()
            if written.exception() is None:
                yield written.result()
            else:
                stopped = stopped or written.exception()
        if stopped is not None:
            raise stopped

    def _keep(self, outcome: Outcome) -> Result:
        if isinstance(outcome, NoImage):
            return outcome
        return saving.save(self.root, self.slug, outcome, self.settings, self.model.facts, self.image_format)

    def _count(self, outcome: Outcome) -> None:
        failed = isinstance(outcome, NoImage) and not outcome.permanent
        self._failures = self._failures + 1 if failed else 0

    def _attempt(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Outcomes of `batch`; what an exception left without one is tried again, in smaller pieces."""
        if self._failures >= FAILURES_IN_A_ROW:
            raise ModelBroken(f"{self.slug}: {self._failures} images in a row failed; see the rejects for the reasons")
        left = {request.pair_id: request for request in batch}
        try:
            for outcome in self.model.generate(batch):
                if left.pop(outcome.request.pair_id, None):
                    yield outcome
        except BatchTooLarge as error:
            yield from self._smaller(list(left.values()), str(error))
            return
        except ModelBroken:
            raise
        except Exception as error:  # whatever a model's code raises must cost its own image only
            yield from self._one_by_one(list(left.values()), error)
            return
        for request in left.values():
            yield NoImage(request=request, reason="the model returned nothing for this prompt")

    def _smaller(self, batch: Sequence[ImageRequest], reason: str) -> Iterator[Outcome]:
        if len(batch) == 1:
            yield NoImage(request=batch[0], reason=f"out of memory with one image a batch: {reason}")
            return
        self.batch_size = max(1, min(self.batch_size, len(batch)) // 2)
        log.warning("%s: out of memory; going on with batches of %d", self.slug, self.batch_size)
        rest = iter(batch)
        while part := list(islice(rest, self.batch_size)):  # the size may shrink again on the way
            yield from self._attempt(part)

    def _one_by_one(self, batch: Sequence[ImageRequest], error: Exception) -> Iterator[Outcome]:
        if len(batch) == 1:
            log.warning("%s: %s: %s", batch[0].pair_id, type(error).__name__, error)
            yield NoImage(request=batch[0], reason=f"{type(error).__name__}: {error}")
            return
        log.warning("%s: a batch of %d failed (%s); trying its prompts one by one", self.slug, len(batch), error)
        for request in batch:
            yield from self._attempt([request])
