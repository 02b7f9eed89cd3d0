"""Networks of an own training loop become a zoo that is edited, learned from and published."""

import torch
from datasets import load_dataset

from weightzoo import ZooWriter, encoders, load_zoo, save_zoo, tasks
from weightzoo.loaders.hub.publishing import push_to_hub


class ScaledSNE(encoders.SNE):
    def forward(self, weights, layer_table):
        return super().forward(weights / weights.norm(dim=1, keepdim=True), layer_table)


encoders.register_encoder("scaled-sne", ScaledSNE)

y = ((x := torch.randn(256, 8, generator=torch.manual_seed(0))).sum(1) > 0).long()
with ZooWriter("mine", name="mine", licence="mit") as writer:
    for lr in torch.linspace(0.01, 1, 20).tolist():
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr)
        for _ in range(4):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        writer.add(model, lr=lr, train_accuracy=(model(x).argmax(1) == y).float().mean())
zoo = load_zoo("mine", split="train+val+test").add_column("owner", ["me"] * 20)
save_zoo(zoo.filter("lr > 0.02"), "edited")
edited = load_zoo("edited")
predictor = tasks.train_encoder(ScaledSNE, edited["train"], edited["val"], "train_accuracy")
print(predictor.predict(edited["test"]))
push_to_hub("edited", "me/edited")
print(load_dataset("me/edited", split="train"))
