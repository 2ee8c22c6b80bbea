"""What stream transports have beyond asyncio's: layers, phases, counts, relays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from ._errors import Closed, connect_error, exception_of
from ._reaching import Phase
from ._values import check_seconds, check_word, kind_of

if TYPE_CHECKING:
    from ._tepal import StreamTransport as Base
else:
    Base = object


class Stacked(Base):
    """The part of `StreamTransport` about its layers."""

    # The recipes of layers that each attempt builds anew.
    _specs: Any = None

    # ---- layers

    def push_layer(
        self,
        spec: Any,
        *,
        below: str | None = None,
        residual: Literal["reject", "discard", "feed"] = "reject",
    ) -> int:
        """Put a layer in, above the bytes already written: on top, or below the layer named.

        `layer_added` follows, and `layer_ready` after its handshake. What is written from now on
        passes through it.

        Args:
            spec: the recipe.
            below: the command name of the layer to go under; of several, the topmost.
            residual: what becomes of bytes that were received and not consumed. "reject" ends the
                connection if there are any, since what came in plain text behind a STARTTLS must
                not be taken for what TLS protects; "discard" drops them; "feed" gives them to the
                new layer. Inside `data_received` that call's count applies first.

        Returns:
            The layer's id, for `pop_layer`. No other layer of this loop has had it.

        Raises:
            KeyError: there is no layer named `below`.
            RuntimeError: the connection is not established, closes, or another change is under way.
            TypeError, ValueError: an argument is wrong. Nothing has changed in all of these cases.
        """
        from ._layers import spec_of

        native = spec_of(spec)
        _check_name("below", below)
        check_word("residual", residual, ("reject", "discard", "feed"))
        return self._push_layer(native, below, residual)

    def pop_layer(
        self,
        layer: str | int | None = None,
        *,
        timeout: float = 5.0,
        late: Literal["close", "keep"] = "close",
    ) -> asyncio.Future[str]:
        """Take a layer out gracefully.

        It says its goodbye (TLS: close_notify) and waits for the peer's. What is written from now
        on waits until then and goes to the layer below: no byte is lost or doubled.

        Args:
            layer: which one. None: the topmost. A name: the topmost of those so named. An id, as
                `push_layer` and `layer_ids` tell it: that one.
            timeout: seconds for the peer's answer.
            late: what a peer that does not answer costs: "close" the connection, "keep" only the
                layer.

        Returns:
            A future with how it ended: "closed", "by_peer", "timed_out", "finished". Its exception
            is a `ClosingTimeout`, or what else ended the connection.

        Raises:
            KeyError: there is no such layer.
            RuntimeError: the connection is not established, closes, or another change is under way.
        """
        name, number = _which(layer)
        check_seconds("timeout", timeout)
        check_word("late", late, ("close", "keep"))
        future: asyncio.Future[str] = self._loop.create_future()
        self._pop_layer(name, number, float(timeout), late == "keep", future)
        # Who does not wait for it hears of a failure by connection_lost.
        future.add_done_callback(_seen)
        return future

    def command(self, layer: str, command: Any) -> None:
        """Give an order to a layer, in order with writes.

        "lines" takes "raw" and "lines": what follows is raw bytes, or lines again, in both
        directions. A layer written in Python gets any object by `handle_command`.

        Raises:
            KeyError: there is no such layer.
            RuntimeError: the connection is not established, or closes.
        """
        if not isinstance(layer, str):
            raise TypeError(f"layer must be a str, not {kind_of(layer)}")
        self._command(layer, command)

    def answer_request(
        self, layer: str, address: tuple[str, int] | None = None, *, refusal: int = 1
    ) -> None:
        """Answer a client of a proxy layer, which has asked by `layer_request`.

        Args:
            layer: the layer's name.
            address: where the connection made for the client comes from: (host, port). None
                refuses the client.
            refusal: the reply of a refusal (RFC 1928, section 6).
        """
        if address is None:
            self._answer(layer, None, refusal)
        else:
            import ipaddress  # Here, since it takes a millisecond.

            host, port, *_ = address
            self._answer(layer, (ipaddress.ip_address(host), port), 0)

    def join(self, other: Any) -> asyncio.Future[tuple[int, int]]:
        """Relay between this connection and another, both ways, without Python.

        The protocols get no more bytes. An end of input on one side ends the writing on the other;
        once both have ended, both connections close.

        Returns:
            A future with the bytes relayed: (from this one, to this one).

        Raises:
            RuntimeError: one of them is not established, closes, or is relayed already.
            ValueError: they are one, or of different loops.
        """
        future: asyncio.Future[tuple[int, int]] = self._loop.create_future()
        self._join(other, future)
        future.add_done_callback(_seen)
        return future

    # ---- state

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return Phase(self._phase)

    def reconnect(
        self,
        delay: float | None = None,
        *,
        restart: Literal["resolve", "connect"] = "resolve",
        unsent: Literal["drop", "keep"] = "drop",
    ) -> None:
        """Make a new attempt with the same protocol, for a transport of `loop.connect`.

        Legal in every callback and hook, `connection_lost` included, and between them. While an
        attempt runs it is given up; an established connection is lost first. `connection_made` is
        not called again, `connection_established` is.

        Args:
            delay: seconds to wait. None: the next wait of the `Backoff`, else none.
            restart: "resolve" looks the name up again, "connect" uses the known addresses.
            unsent: what becomes of bytes that were written to an established connection and have
                not left: "drop" counts them in `closed.unsent`, "keep" sends them on the next one,
                as far as no peer can have got them and no layer has changed them (TLS: what it has
                not encrypted). Nothing is kept once a layer was pushed or popped.

        Raises:
            RuntimeError: the connection was accepted or made by other means, or is over.
        """
        if delay is not None:
            check_seconds("delay", delay)
        check_word("restart", restart, ("resolve", "connect"))
        check_word("unsent", unsent, ("drop", "keep"))
        if not self._reconnect(delay, restart == "resolve", unsent == "keep"):
            raise RuntimeError("only a transport of loop.connect() that is not over reconnects")

    async def established(self) -> None:
        """Wait until bytes may flow, through retries.

        Raises:
            ConnectError: nobody tries any more; `problem` tells why.
        """
        closed: Closed | None = self.closed
        if closed is None and self.phase is not Phase.ESTABLISHED:
            waiter = self._waiter
            if waiter is None:
                waiter = self._waiter = self._loop.create_future()
                waiter.add_done_callback(_seen)
            try:
                await asyncio.shield(waiter)
            except Exception:
                closed = self.closed
                if closed is None:
                    raise
        if closed is not None:
            if closed.clean:
                raise ConnectionAbortedError(f"the connection is over: {closed.text}")
            raise connect_error(closed) from exception_of(closed)

    # ---- other names

    def pause(self) -> None:
        """Another name of `pause_reading`, as in PEP 3156's first drafts."""
        self.pause_reading()

    def resume(self) -> None:
        """Another name of `resume_reading`."""
        self.resume_reading()

    def pause_in(self) -> None:
        """Another name of `pause_reading`."""
        self.pause_reading()

    def resume_in(self) -> None:
        """Another name of `resume_reading`."""
        self.resume_reading()

    pause_io_in = pause_in
    resume_io_in = resume_in


def _check_name(argument: str, name: object) -> None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{argument} must be a layer's name or None, not {kind_of(name)}")


def _which(layer: object) -> tuple[str | None, int | None]:
    """The name or the id by which a layer is meant."""
    if isinstance(layer, int) and not isinstance(layer, bool):
        # What no layer can have is the id of none.
        return None, layer if 0 <= layer < 1 << 64 else 0
    if layer is None or isinstance(layer, str):
        return layer, None
    raise TypeError(f"layer must be a layer's name or id, or None, not {kind_of(layer)}")


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
