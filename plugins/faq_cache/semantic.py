"""The semantic tier: an entry whose phrase means the same, and that nothing speaks against."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .deciding import Found, decided
from .embedders import opened
from .matching import MAX_CHINESE, MAX_WORDS, Decision
from .spaces import Spaces, asked_text, laid_out
from .thresholds import language, thresholds
from .worker import Skipped, Worker

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from datetime import datetime

    from .embedders import Embedder, Matrix
    from .entries import Faq
    from .matching import Index, InScope, Tell
    from .options import Semantic
    from .question import Question
    from .spaces import Neighbour

TRIED_FOR = frozenset(("unknown", "scope", "expired"))
"""Why the tiers before may have found nothing, if this one is to be asked."""
SHADOW_THRESHOLD = 0.9
"""What is recorded in shadow mode of an embedder that or language has no threshold."""
AGAIN_SECONDS = 30.0
"""After an embedder has failed at a FAQ."""


class SemanticTier:
    """An embedder, and the spaces of the FAQ in use."""

    def __init__(self, options: Semantic, log: logging.Logger) -> None:
        self._options = options
        self._log = log
        self._steps = thresholds(options.embedder, options.threshold)
        if options.mode == "shadow":
            self._steps = thresholds(None, SHADOW_THRESHOLD) | self._steps
        self._embedder: Embedder | None = None
        self._worker: Worker | None = None
        self._known: dict[str, Matrix] = {}
        self._ready: tuple[Faq, Spaces] | None = None
        self._wanted: Faq | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._builder: threading.Thread | None = None

    def start(self) -> None:
        """Load the model; blocks.  EmbedderMissing if it is not there."""
        embedder = self._embedder = opened(self._options)
        self._worker = Worker(
            threads=embedder.parallel, waiting=self._options.queue, deadline=self._options.deadline
        )
        self._builder = threading.Thread(target=self._build, name="faq spaces", daemon=True)
        self._builder.start()

    def stop(self) -> None:
        """Blocks until the thread that builds has ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._worker is not None:
            self._worker.stop()
        if self._builder is not None:
            self._builder.join(10)
        if self._embedder is not None:
            self._embedder.close()

    # ---- a question

    async def find(self, asked: Question, index: Index, in_scope: InScope, now: datetime) -> Found:
        """The entry to answer with, or the reason why there is none; within the deadline."""
        if reason := self._unfit(asked):
            return Found(Decision(reason))
        self.want(index.faq)
        if self._ready is None or self._ready[0] is not index.faq:
            return Found(Decision("semantic_not_ready"))
        spaces = self._ready[1]
        if language(asked) not in spaces.by_language:
            return Found(Decision("language"))
        assert self._worker is not None
        try:
            neighbours = await self._worker.run(lambda: self._nearest(asked, spaces))
        except Skipped as skipped:
            if skipped.__cause__ is not None:
                self._log.warning("the embedder failed: %r", skipped.__cause__)
            return Found(Decision(str(skipped)))
        return decided(neighbours, asked, index, in_scope, now, self._options.margin)

    def explained(
        self, asked: Question, index: Index, in_scope: InScope, now: datetime, tell: Tell
    ) -> Found:
        """The same for a command, which waits for the embedder as long as it takes."""
        if reason := self._unfit(asked):
            tell(f"semantic: {reason}")
            return Found(Decision(reason))
        self._embedder = self._embedder or opened(self._options)
        spaces = laid_out(index.faq, self._steps, self._vectors)
        for remark in spaces.remarks:
            tell(f"semantic: {remark}")
        if language(asked) not in spaces.by_language:
            tell(f"semantic: nothing is known in language {language(asked)!r}")
            return Found(Decision("language"))
        neighbours = self._nearest(asked, spaces)
        return decided(neighbours, asked, index, in_scope, now, self._options.margin, tell)

    def _unfit(self, asked: Question) -> str:
        long = asked.chinese > MAX_CHINESE or len(asked.tokens) - asked.chinese > MAX_WORDS
        return "too_long" if long else "" if asked.tokens else "no_words"

    def _nearest(self, asked: Question, spaces: Spaces) -> list[Neighbour]:
        assert self._embedder is not None
        (vector,) = self._embedder.embed([asked_text(asked)])
        return spaces.by_language[language(asked)].nearest(vector)

    # ---- the FAQ, beside the requests

    def want(self, faq: Faq) -> None:
        """Have the spaces of this FAQ made, if they are not there."""
        if self._wanted is not faq:
            with self._changed:
                self._wanted = faq
                self._changed.notify()

    def _build(self) -> None:
        """The thread's whole life: wait for another FAQ, and lay it out."""
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._stopped:
                    return
                faq = self._wanted
            assert faq is not None
            try:
                spaces = laid_out(faq, self._steps, self._vectors)
            except _Stopped:
                return
            except Exception as error:  # each library has its own
                self._log.error("the semantic tier has no vectors of the FAQ: %r", error)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, AGAIN_SECONDS)
                continue
            for remark in spaces.remarks:
                self._log.warning("%s", remark)
            self._ready = (faq, spaces)
            self._forget(faq)

    def _has_work(self) -> bool:
        ready = self._ready[0] if self._ready else None
        return self._stopped or (self._wanted is not None and self._wanted is not ready)

    def _vectors(self, texts: Sequence[str]) -> Matrix:
        """A row for each text; what has been in the FAQ before is not asked for again."""
        import numpy as np

        assert self._embedder is not None
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), self._embedder.at_once):
            if self._stopped:
                raise _Stopped
            some = new[start : start + self._embedder.at_once]
            self._known.update(zip(some, self._embedder.embed(some), strict=True))
            time.sleep(0.001)  # a request that waits for the model is to have it now
        return np.stack([self._known[text] for text in texts])

    def _forget(self, faq: Faq) -> None:
        from .question import Question

        phrases = {p for entry in faq.entries for p in (*entry.phrases, *entry.negatives)}
        texts = {asked_text(Question(phrase)) for phrase in phrases}
        self._known = {text: row for text, row in self._known.items() if text in texts}


class _Stopped(Exception):
    """The tier is being stopped."""
