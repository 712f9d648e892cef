"""Pairs and what became of them go from one process to another."""

import pickle

import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dyneval.scorer import Failure, ScoringError, make_pair


class Pictures(Dataset):
    """Pairs that a data loader's worker makes."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        return make_pair(self.paths[number], f"picture {number}")


def test_pairs_that_a_worker_made_are_those_that_are_made_here(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40, 30), (80 * number, 0, 0)).save(path)
    pictures = Pictures(paths)
    loader = DataLoader(pictures, batch_size=2, num_workers=1, collate_fn=list, timeout=60)  # no result: no hang
    made = [pair for batch in loader for pair in batch]
    assert made == [pictures[number] for number in range(3)] and all(pair.is_wanted() for pair in made)
    assert [pair.image_hash for pair in made] == [pictures[number].image_hash for number in range(3)]


@pytest.mark.parametrize("count", [1, 5])
def test_an_error_of_a_worker_names_its_failures(count):
    error = ScoringError([Failure(f"p{number}", "the prompt is empty") for number in range(count)])
    again = pickle.loads(pickle.dumps(error))
    assert again.failures == error.failures and str(again) == str(error)
    assert str(error).startswith(f"{count} pair(s) could not be scored: p0: the prompt is empty")
