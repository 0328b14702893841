"""All outputs of one attempt, those of an earlier attempt's checkpoint included."""

from collections.abc import Mapping

from app.ledger import SavedOutput
from app.outcomes import ConfigurationError, HandlerError
from app.output import DEFAULT_CONTENT_TYPE, Offers, Output, OutputPolicy, Restored
from app.ports import OutputStore
from app.settings import Location


class Outputs:
    """All outputs of one attempt.

    Args:
        where: OUTPUT_URL, None where it is not set.
        restored: what an earlier attempt's checkpoint kept, by full key.
        opened: takes every output in, for who has to tidy up.

    Attributes:
        offers: the newest checkpoint offered.
    """

    def __init__(
        self,
        store: OutputStore,
        where: Location | None,
        policy: OutputPolicy,
        restored: Mapping[str, Restored],
        opened: list[Output],
    ) -> None:
        self.offers = Offers()
        self._store = store
        self._where = where
        self._policy = policy
        self._restored = dict(restored)
        self._opened = opened

    def open(self, key: str, content_type: str = DEFAULT_CONTENT_TYPE) -> Output:
        """A new output, or one that goes on where an earlier attempt's checkpoint was.

        Raises:
            ConfigurationError: OUTPUT_URL is not set.
            ValueError: the key is empty, or open or finished already in this attempt.
        """
        if self._where is None:
            raise ConfigurationError("OUTPUT_URL: is not set: the handler writes an output")
        if not key:
            raise ValueError("an output needs a key")
        full = self._where.key(key)
        if any(other.key == full for other in self.live):
            raise ValueError(f"output {key!r} was opened twice")
        output = Output(
            self._store,
            self._where.bucket,
            full,
            content_type,
            self._policy,
            self.offers,
        )
        if full in self._restored:
            output.restore(self._restored.pop(full))
        self._opened.append(output)
        return output

    @property
    def live(self) -> list[Output]:
        """Those that were not given up."""
        return [output for output in self._opened if output.state != "abandoned"]

    @property
    def untouched(self) -> list[Restored]:
        """What was restored and not opened again."""
        return list(self._restored.values())

    @property
    def written(self) -> int:
        """Bytes written to all of them."""
        return sum(output.size for output in self._opened)

    def saved(self, offer: object) -> list[tuple[Output, SavedOutput, bytes]]:
        """What a checkpoint keeps of those that were opened when it was offered."""
        sizes = [(output, output.size_at(offer)) for output in self.live]
        return [(output, *output.saved(size)) for output, size in sizes if size >= 0]

    async def finish_untouched(self) -> None:
        """Take over what an earlier attempt had closed and this one did not open again."""
        for key, found in list(self._restored.items()):
            if found.saved.finished:
                del self._restored[key]
                saved = found.saved
                output = Output(
                    self._store, saved.bucket, saved.key, saved.content_type, self._policy
                )
                output.restore(found)
                self._opened.append(output)
                await output.finish_restored()

    def finished(self) -> list[Output]:
        """Those that are to be committed.

        Raises:
            HandlerError: one was never closed, or was open at the checkpoint and not opened
                again, so that its end is unknown.
        """
        for found in self._restored.values():
            text = f"output {found.saved.key!r} was open at the checkpoint: it is not opened again"
            raise HandlerError(ValueError(text))
        for output in self.live:
            if output.state == "open":
                text = f"output {output.key!r} was not closed before the handler returned"
                raise HandlerError(ValueError(text))
        return self.live
