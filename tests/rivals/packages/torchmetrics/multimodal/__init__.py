import torch


class CLIPImageQualityAssessment(torch.nn.Module):
    def __init__(self, model_name_or_path="clip_iqa", data_range=1.0, prompts=("quality",)):
        super().__init__()
        assert (model_name_or_path, data_range, prompts) == ("clip_iqa", 1.0, ("quality",))
        self.values = []

    def reset(self):
        self.values = []

    def update(self, images):
        assert images.dim() == 4 and images.shape[1] == 3
        self.values.append(images[:, 0, 0, 0])

    def compute(self):
        return torch.cat(self.values).squeeze()
