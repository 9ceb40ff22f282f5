"""Architectures as the transformers library writes them, from configurations small enough to test.

Each function returns a model with random weights and the keyword arguments of a call that gives a
loss. What a config leaves out is the library's default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, dict[str, Any]]

VOCABULARY = 37

# The sizes of a small Transformer, of one that reads text, and of one whose queries share keys.
SMALL: dict[str, Any] = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
}
READER = SMALL | {"vocab_size": VOCABULARY, "max_position_embeddings": 16}
SHARED_KEYS = READER | {
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
}


def _tokens(*shape: int) -> Tensor:
    return torch.randint(VOCABULARY, shape)


def _images(n: int, size: int) -> Tensor:
    return torch.randn(n, 3, size, size)


def _predicts(kind: Callable[[Any], Any], config: Any) -> tuple[Any, dict[str, Any]]:
    """A model of language, on a text that is its own target."""
    tokens = _tokens(2, 9)
    return kind(config), {"input_ids": tokens, "labels": tokens}


def gpt2() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=16,
        n_embd=12,
        n_layer=2,
        n_head=3,
        bos_token_id=0,
        eos_token_id=0,
    )
    model, call = _predicts(GPT2LMHeadModel, config)
    model.loss_type = "ForCausalLM"  # it takes that anyway, after a warning
    return model, call


def bert() -> Made:
    """With a mask of padding, and words to fill in."""
    from transformers import BertConfig, BertForMaskedLM

    tokens = _tokens(2, 9)
    labels = torch.where(tokens < 9, tokens, -100)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    return BertForMaskedLM(BertConfig(**READER)), {
        "input_ids": tokens,
        "attention_mask": mask,
        "labels": labels,
    }


def llama() -> Made:
    """Rotary positions, RMSNorm, gated SiLU, two queries to a key."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _predicts(LlamaForCausalLM, LlamaConfig(**SHARED_KEYS))


def mixtral() -> Made:
    """A mixture of experts: tokens are gathered and scattered."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        **SHARED_KEYS,
        num_local_experts=4,
        output_router_logits=True,
        experts_implementation="eager",  # the grouped kernel takes no float64
    )
    return _predicts(MixtralForCausalLM, config)


def t5() -> Made:
    """Encoder and decoder with relative positions."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=12,
        d_kv=4,
        d_ff=20,
        num_layers=2,
        num_heads=3,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config), {"input_ids": _tokens(2, 9), "labels": _tokens(2, 7)}


def deberta() -> Made:
    """Disentangled attention: positions are gathered for every pair."""
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

    config = DebertaV2Config(
        **READER, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=4
    )
    return _predicts(DebertaV2ForMaskedLM, config)


def mamba() -> Made:
    """A state space: a scan over time in place of attention."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=12, state_size=4, num_hidden_layers=2, use_mambapy=False
    )
    return _predicts(MambaForCausalLM, config)


def whisper() -> Made:
    """Convolutions over a spectrogram, then encoder and decoder."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=6,
        d_model=12,
        encoder_layers=2,
        encoder_attention_heads=3,
        decoder_layers=2,
        decoder_attention_heads=3,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        max_source_positions=8,
        max_target_positions=12,
        dropout=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    return model, {"input_features": torch.randn(2, 6, 16), "labels": _tokens(2, 7)}


def wav2vec2() -> Made:
    """Weight normalization, GroupNorm and CTC."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        **SMALL,
        vocab_size=11,
        conv_dim=(8, 8),
        conv_stride=(2, 2),
        conv_kernel=(3, 3),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        mask_time_prob=0.0,
        layerdrop=0.0,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
    )
    labels = torch.randint(1, 11, (2, 5))
    return Wav2Vec2ForCTC(config), {"input_values": torch.randn(2, 80), "labels": labels}


def resnet() -> Made:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=6, hidden_sizes=[6, 8], depths=[2, 2], layer_type="basic", num_labels=5
    )
    return ResNetForImageClassification(config), _classified(3, 24)


def resnet_bottleneck() -> Made:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck", num_labels=5
    )
    return ResNetForImageClassification(config), _classified(3, 24)


def _classified(n: int, size: int) -> dict[str, Any]:
    return {"pixel_values": _images(n, size), "labels": torch.randint(5, (n,))}


def convnext() -> Made:
    """Depthwise convolutions, LayerNorm over channels, whole blocks dropped."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(
        hidden_sizes=[6, 8, 8, 10], depths=[1, 1, 1, 1], num_labels=5, drop_path_rate=0.2
    )
    return ConvNextForImageClassification(config), _classified(3, 32)


def vit() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**SMALL, image_size=12, patch_size=4, num_labels=5)
    return ViTForImageClassification(config), _classified(3, 12)


def swin() -> Made:
    """Attention in windows that are rolled and masked."""
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[1, 2],
        num_heads=[1, 2],
        window_size=2,
        num_labels=5,
        drop_path_rate=0.1,
    )
    return SwinForImageClassification(config), _classified(2, 16)


def segformer() -> Made:
    """A class for every pixel, interpolated."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[6, 8],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        num_labels=4,
    )
    labels = torch.randint(4, (2, 32, 32))
    model = SegformerForSemanticSegmentation(config)
    return model, {"pixel_values": _images(2, 32), "labels": labels}


def clip() -> Made:
    """Two towers and a contrastive loss."""
    from transformers import CLIPConfig, CLIPModel

    one_layer = {"num_hidden_layers": 1}
    text = READER | one_layer | {"bos_token_id": 0, "eos_token_id": VOCABULARY - 1}
    vision = SMALL | one_layer | {"image_size": 12, "patch_size": 4}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    tokens = _tokens(3, 9)
    tokens[:, -1] = VOCABULARY - 1  # the word whose vector stands for the whole text
    return CLIPModel(config), {
        "input_ids": tokens,
        "pixel_values": _images(3, 12),
        "return_loss": True,
    }


ARCHITECTURES = (
    gpt2,
    bert,
    llama,
    mixtral,
    t5,
    deberta,
    mamba,
    whisper,
    wav2vec2,
    resnet,
    resnet_bottleneck,
    convnext,
    vit,
    swin,
    segformer,
    clip,
)
