"""Statistics of batch norms, recomputed over batches."""

import torch

from weightzoo.tasks.training.batch_norms import refresh_batch_norms


def test_statistics_become_those_of_the_batches_and_modes_stay() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    images = [torch.randn(16, 1, 6, 6) for _ in range(4)]
    refresh_batch_norms(module, [(batch,) for batch in images])
    outputs = module(torch.cat(images))
    assert module[1].momentum == 0.1
    assert not module.training and not module[1].training
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.std((0, 2, 3)), torch.ones(4), atol=0.05, rtol=0)


def test_batches_are_not_read_without_batch_norms() -> None:
    batches = iter([(torch.zeros(1, 2),)])
    refresh_batch_norms(torch.nn.Linear(2, 1), batches)
    assert next(batches)
