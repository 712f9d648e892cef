"""Stands in for image-reward 1.5: the same calls, which it checks as the real ones do, and scores that a test knows."""

import torch
from PIL import Image


class _Tokens(dict):
    def __getattr__(self, name):
        return self[name]

    def to(self, device):
        assert isinstance(device, torch.device)
        return self


class _Blip:
    @staticmethod
    def tokenizer(texts, padding=False, truncation=False, max_length=None, return_tensors=None):
        ids = [[101, *map(len, text.split()), 102] for text in texts]
        if return_tensors is None:
            return _Tokens(input_ids=ids)
        assert (padding, truncation, max_length, return_tensors) == ("max_length", True, 35, "pt")
        rows = [[*row[:34], 102] if len(row) > 35 else row + [0] * (35 - len(row)) for row in ids]
        ids = torch.tensor(rows)
        return _Tokens(input_ids=ids, attention_mask=(ids > 0).long())


class _Model:
    blip = _Blip()

    @staticmethod
    def preprocess(image):
        assert isinstance(image, Image.Image) and image.mode == "RGB"
        return torch.full((3, 224, 224), image.getpixel((0, 0))[0] / 255)

    @staticmethod
    def score_gard(prompt_ids, prompt_attention_mask, image):
        assert prompt_ids.shape == prompt_attention_mask.shape == (len(image), 35)
        assert image.shape[1:] == (3, 224, 224) and not torch.is_grad_enabled()
        return image[:, :1, 0, 0] + prompt_attention_mask.sum(-1, keepdim=True)


def load(name="ImageReward-v1.0", device="cpu", download_root=None, med_config=None):
    assert name == "ImageReward-v1.0" and isinstance(device, torch.device)
    return _Model()
