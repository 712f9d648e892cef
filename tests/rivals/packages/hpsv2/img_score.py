import torch
from PIL import Image

model_dict = {}
device = "cpu"


class _Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image, text):
        assert image.shape[1:] == (3, 224, 224) and text.shape == (len(image), 77)
        assert not self.training and not torch.is_grad_enabled()
        red = image[:, 0, 0, 0] * self.weight
        shown = torch.stack([red, 1 - red], dim=-1)
        said = torch.stack([text[:, 1] / 100, torch.zeros(len(text))], dim=-1)
        return {"image_features": shown, "text_features": said}


def initialize_model():
    if not model_dict:
        model_dict["model"] = _Model()
        model_dict["preprocess_val"] = _preprocess


def _preprocess(image):
    assert isinstance(image, Image.Image)
    return torch.full((3, 224, 224), image.getpixel((0, 0))[0] / 255)


def get_tokenizer(name):
    assert name == "ViT-H-14"

    def tokenize(texts, context_length=77):
        rows = torch.zeros(len(texts), context_length, dtype=torch.long)
        rows[:, 1] = torch.tensor([len(text) for text in texts])
        return rows

    return tokenize
