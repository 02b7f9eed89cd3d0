"""The licence of imported networks travels into the card; without one nothing is published."""

from pathlib import Path

import pytest
import torch
from hub_client import HubClient
from hub_server import HubServer

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders.hub.publishing import push_to_hub
from weightzoo.zoos.cards.card import repo_card
from weightzoo.zoos.cards.card_zoo import read_card_zoo
from weightzoo.zoos.cards.licences import stated_licence, under_licence
from weightzoo.zoos.index import ZooIndex

PUSH = """
from weightzoo.loaders.hub.publishing import push_to_hub
result = push_to_hub(folder, repo, licence=licence)
"""


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A zoo of others' networks, whose source states no licence."""
    (tmp_path / "nets").mkdir()
    for seed in range(4):
        torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / f"nets/net{seed}.pt")
    import_zoo("state-dicts", tmp_path / "nets", tmp_path / "theirs", progress=False)
    return tmp_path / "theirs"


@pytest.mark.parametrize("licence", [None, "", "unknown"])
def test_push_without_a_licence_is_refused(imported: Path, licence: str | None) -> None:
    with pytest.raises(ValueError, match="'theirs' holds networks of others and states no licence"):
        push_to_hub(imported, "org/theirs", licence=licence)


def test_card_of_a_repository_never_hides_a_licence(imported: Path, tiny_zoo: Path) -> None:
    ours = read_card_zoo(tiny_zoo, ZooIndex.read(tiny_zoo))
    theirs = under_licence(read_card_zoo(imported, ZooIndex.read(imported)), "mit")
    alone = repo_card("org/a", [theirs])
    assert stated_licence(alone) == "mit" and "Licence: mit" in alone
    assert stated_licence(repo_card("org/a", [theirs], alone)) == "mit"
    assert stated_licence(repo_card("org/a", [under_licence(theirs, "apache-2.0")], alone)) == (
        "apache-2.0"
    )
    both = repo_card("org/a", [theirs], repo_card("org/a", [ours]))
    assert stated_licence(both) == "other"
    own = repo_card("org/a", [ours])
    assert stated_licence(repo_card("org/a", [ours], own.replace("cc-by-4.0", "cc0-1.0"))) == (
        "cc0-1.0"  # chosen by the owner for zoos of their own
    )


@pytest.mark.slow
def test_licence_that_is_given_is_published(
    hub: HubServer, client: HubClient, imported: Path
) -> None:
    client.run(PUSH, folder=imported, repo="org/theirs", licence="mit")
    card = hub.repos["org/theirs"].files["README.md"].data.decode()
    assert stated_licence(card) == "mit"
