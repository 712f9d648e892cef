"""Gets every image out of a loaded model: smaller batches when memory runs out, single requests when a batch fails.

Without it one bad prompt, or one batch that is too large, would cost all images of a run. The loop turns requests into
results: a record whose files are in place, or the reason why there is none. It knows nothing of other workers or of
what was there before. Images are encoded, hashed and written in threads while the model draws the next batch.
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
    """A loaded model and the folder it draws into: the worker of Step 2, see `dyneval.work.executors`.

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

    def work(self, requests: Iterable[ImageRequest]) -> Generator[Result, None, None]:
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
                        if isinstance(outcome, NoImage):
                            # A refusal is about its prompt and says nothing against the model.
                            self._failures = 0 if outcome.permanent else self._failures + 1
                            yield outcome
                        else:
                            self._failures = 0
                            place = (self.root, self.slug, outcome, self.settings, self.model.facts, self.image_format)
                            writing.append(pool.submit(saving.save, *place))
                        # Also after a failure: a record that waits for the next image is lost by a kill until then.
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
        # The images that were being written when the model broke are finished by now; they are paid for and kept.
        while writing:
            written = writing.popleft()
            if written.exception() is None:
                yield written.result()
            else:
                stopped = stopped or written.exception()
        if stopped is not None:
            raise stopped

    def close(self) -> None:
        """Free the device."""
        self.model.close()

    def _attempt(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Yield outcomes of `batch`; what an exception left without one is tried again, in smaller pieces."""
        if self._failures >= FAILURES_IN_A_ROW:
            raise ModelBroken(f"{self.slug}: {self._failures} images in a row failed; see the rejects for the reasons")
        left = {request.pair_id: request for request in batch}
        try:
            for outcome in self.model.generate(batch):
                if left.pop(outcome.request.pair_id, None):
                    yield outcome
        except BatchTooLarge as error:
            yield from self._in_pieces(list(left.values()), f"out of memory with one image a batch: {error}")
            return
        except ModelBroken:
            raise
        except Exception as error:  # whatever a model's code raises must cost its own image only
            reason = f"{type(error).__name__}: {error}"
            if len(left) == 1:
                log.warning("%s: %s", next(iter(left)), reason)
            else:
                log.warning("%s: a batch of %d failed (%s); trying its prompts one by one", self.slug, len(left), error)
            yield from self._in_pieces(list(left.values()), reason, size=1)
            return
        for request in left.values():
            yield NoImage(request=request, reason="the model returned nothing for this prompt")

    def _in_pieces(self, batch: Sequence[ImageRequest], reason: str, size: int | None = None) -> Iterator[Outcome]:
        """Try a failed batch again in pieces of `size`, or half of it; `reason` is recorded with a single request."""
        if len(batch) < 2:
            yield from (NoImage(request=request, reason=reason) for request in batch)
            return
        if size is None:
            self.batch_size = max(1, min(self.batch_size, len(batch)) // 2)
            log.warning("%s: out of memory; going on with batches of %d", self.slug, self.batch_size)
        rest = iter(batch)
        # The batch size is read anew for each piece: it may shrink again on the way.
        while piece := list(islice(rest, size or self.batch_size)):
            yield from self._attempt(piece)
