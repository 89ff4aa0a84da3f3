import torch
from tiny import World
from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge import AvalancheDataset, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.core.protocols import Stateful


def test_bytes_of_tensors_anywhere_in_a_tree() -> None:
    tree = {
        "a": torch.zeros(3, dtype=torch.int16),
        "b": [torch.zeros(2, 2), ("text", 5, {"c": torch.tensor(1.0)})],
    }
    assert tensor_bytes(tree) == 3 * 2 + 4 * 4 + 4
    assert tensor_bytes(None) == 0


def test_a_plugin_of_a_third_party_needs_nothing_but_its_hooks() -> None:
    class Nothing(StrategyPlugin):
        pass

    plugin = Nothing()
    World(plugin).learn(0, steps=1)
    assert isinstance(plugin, Stateful)
    assert (plugin.state_dict(), plugin.held_bytes(), plugin.declared_bytes(1)) == ({}, {}, {})


def test_a_benchmark_reads_no_volume_until_it_is_asked() -> None:
    class Unread(Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> None:
            raise AssertionError("a volume was read")

    benchmark = benchmark_from_datasets(train=[AvalancheDataset([Unread()]) for _ in range(2)])
    assert [len(experience.dataset) for experience in benchmark.train_stream] == [3, 3]
    assert [experience.current_experience for experience in benchmark.train_stream] == [0, 1]
