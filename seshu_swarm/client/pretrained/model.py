"""A model of the swarm as a transformers model: the ends here, the blocks on peers.

    with RemoteModelForCausalLM.from_pretrained("seshu://…") as model:
        model.generate(ids, max_new_tokens=64, do_sample=True, streamer=streamer)

Without a cache a call sends whole rows through the blocks and is differentiable in what goes in, so
prompts and other parts at the ends can be trained. With a cache every row is a session that grows.
With `generation`, the only file of this room that imports transformers. Knows neither sockets nor routes.

Shapes: B batch, L length, M d_model, V vocab_size.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from seshu_swarm import checkpoints
from seshu_swarm.client.pretrained.background import SwarmThread
from seshu_swarm.client.pretrained.cache import RemoteCache
from seshu_swarm.client.pretrained.generation import RemoteGeneration
from seshu_swarm.client.remote.differentiable import through_swarm
from seshu_swarm.client.remote.gradients import RemoteBlocks
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.model import IGNORED_LABEL
from seshu_swarm.mamba.padding import Padding
from seshu_swarm.mamba.pretrained import SeshuMambaConfig
from seshu_swarm.program.config import JoinConfig

STEP_SECONDS = 10.0


@dataclass
class RemoteCausalLMOutput(ModelOutput):
    """`loss` where labels were given; `logits` (B, L or logits_to_keep, V)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache_params: RemoteCache | None = None


class RemoteModelForCausalLM(PreTrainedModel, RemoteGeneration, GenerationMixin):
    """Made by `from_pretrained`; a context manager; ended by `close` or with the interpreter."""

    config_class = SeshuMambaConfig
    main_input_name = "input_ids"
    _is_stateful = True

    def __init__(
        self, thread: SwarmThread, ends: Ends, *, step_seconds: float = STEP_SECONDS
    ) -> None:
        ids = {"eos_token_id": ByteTokeniser.eos_id, "pad_token_id": ByteTokeniser.pad_id}
        super().__init__(SeshuMambaConfig.from_shape(ends.shape, **ids))
        self.ends = ends
        self.step_seconds = step_seconds
        self.revision = thread.remote.revision
        self._thread = thread
        self._blocks = RemoteBlocks(
            thread.joined.swarm,
            revision=thread.remote.revision,
            num_blocks=ends.shape.num_blocks,
            find=thread.remote.offers,
        )
        self.post_init()
        # `close` itself would keep the model alive; the interpreter's exit is the thread's matter.
        weakref.finalize(self, thread.close).atexit = False

    @classmethod
    def from_pretrained(
        cls,
        link: str,
        *,
        revision: str | None = None,
        state_dir: str = "~/.seshu-client",
        host: str = "0.0.0.0",
        step_seconds: float = STEP_SECONDS,
    ) -> Self:
        """Join the run that the link names, and fetch the ends of its newest revision or of `revision`.

        Key and downloads lie in `state_dir`; `host` is the address to listen on. A peer that takes longer than `step_seconds` for a step is replaced. Raises JoinError,
        PeerError, PackageError, ResourceError or UsageError.
        """
        settings = JoinConfig(join=link, state_dir=state_dir, host=host)
        thread = SwarmThread.join(settings, revision)
        try:
            # Of its own: whoever trains an end must not change what others of this process use.
            ends = checkpoints.load_ends(thread.joined.package_folder(thread.remote.revision))
            model = cls(thread, ends, step_seconds=step_seconds)
        except BaseException:
            thread.close()
            raise
        model.eval()
        return model

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Refused: the blocks are not here."""
        raise UsageError(
            "a remote model cannot be saved",
            rule="only its ends are here",
            way_out="model.ends.state_dict() has those; the checkpoint is the swarm's",
        )

    def close(self) -> None:
        """Leave the swarm; sessions end."""
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing is fresh here: the ends were read from the checkpoint."""

    def get_input_embeddings(self) -> nn.Module:
        return self.ends.embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.ends.lm_head or self.ends.embeddings

    def session(self) -> RemoteCache:
        """A conversation of several calls of generate(); close it, or use it with `with`.

        When its revision ends it goes on with the run's newest one, which `session.rolls` says and the
        log too; not where `from_pretrained` was given a revision by name.
        """
        return RemoteCache(self._thread, self.step_seconds)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache_params: RemoteCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> RemoteCausalLMOutput | tuple[Any, ...]:
        """The arguments of SeshuMambaForCausalLM; other `kwargs` go to transformers' loss.

        With a cache given, or asked for by `use_cache`, every row advances by its tokens under the
        mask; close the cache when done. Without, whole rows go through, forward and backward. Raises
        PeerError, UsageError.
        """
        hidden_BLM = self._hidden(input_ids, inputs_embeds)
        if cache_params is None and use_cache:
            cache_params = self.session()
        if cache_params is None:
            hidden_BLM = self._through(hidden_BLM, attention_mask)
        else:
            hidden_BLM = _advanced(cache_params, hidden_BLM, attention_mask, input_ids)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        head = self.ends.logits
        if cache_params is None:
            logits_BLV = head(hidden_BLM[:, kept]).float()
        else:
            logits_BLV = cache_params.logits(hidden_BLM[:, kept], head).float()
        loss = None if labels is None else self._loss(logits_BLV, labels, attention_mask, kwargs)
        output = RemoteCausalLMOutput(loss=loss, logits=logits_BLV, cache_params=cache_params)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def _hidden(self, ids_BL: Tensor | None, embeddings_BLM: Tensor | None) -> Tensor:
        if ids_BL is not None and embeddings_BLM is None:
            return self.ends.embed(ids_BL)
        if ids_BL is None and embeddings_BLM is not None:
            return embeddings_BLM
        raise UsageError("input_ids and inputs_embeds", rule="give exactly one of them")

    def _through(self, hidden_BLM: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Whole rows through all blocks, from the zero state."""
        batch, length, _ = hidden_BLM.shape
        padding = Padding.of_mask(mask_BL, batch=batch, length=length)
        if padding is None:
            return through_swarm(hidden_BLM, self._blocks, [length] * batch, self._thread.run)
        first_BLM = padding.text_first(hidden_BLM)
        lengths = padding.lengths.tolist()
        return padding.as_given(through_swarm(first_BLM, self._blocks, lengths, self._thread.run))

    def _loss(
        self, logits_BLV: Tensor, labels_BL: Tensor, mask: Tensor | None, others: dict[str, Any]
    ) -> Tensor:
        """As SeshuMambaForCausalLM's: the mean loss of the next token, shifted here."""
        if logits_BLV.shape[:2] != labels_BL.shape:
            raise UsageError(
                f"labels {tuple(labels_BL.shape)} and logits {tuple(logits_BLV.shape)}",
                rule="a label for each position, and all logits kept",
            )
        batch, length = labels_BL.shape
        padding = Padding.of_mask(mask, batch=batch, length=length)
        if padding is not None:
            labels_BL = padding.counted(labels_BL, ignored=IGNORED_LABEL)
        loss: Tensor = self.loss_function(
            logits=logits_BLV, labels=labels_BL, vocab_size=logits_BLV.shape[-1], **others
        )
        return loss


def _advanced(
    cache: RemoteCache, hidden_BLM: Tensor, mask_BL: Tensor | None, ids_BL: Tensor | None
) -> Tensor:
    """Every row's session by its tokens under the mask, whose last columns are these."""
    if torch.is_grad_enabled() and hidden_BLM.requires_grad:
        raise UsageError(
            "a gradient through a session",
            rule="sessions compute forward only",
            way_out="call the model without a cache, or under torch.no_grad()",
        )
    batch, length = hidden_BLM.shape[:2]
    if mask_BL is None:
        mask_BL = torch.ones(batch, length, dtype=torch.bool)
    sent_BLM = hidden_BLM.detach().to("cpu", torch.float32)
    ids_BL = None if ids_BL is None else ids_BL.cpu()
    return cache.step(sent_BLM, mask_BL[:, -length:].cpu(), ids_BL).to(hidden_BLM)
