"""Families: planted ones are recovered, unrelated members are not, duplicates are named."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from make_checkpoints import llama_tensors, make_checkpoint
from torch import Tensor

from weightzoo.cli.main import main
from weightzoo.loaders import HiddenPermutations, load_zoo
from weightzoo.loaders.collections import ModelCollection
from weightzoo.tasks.merging.families import Families, find_families, find_zoo_families
from weightzoo.tasks.merging.families_report import families_text, plot_families
from weightzoo.tasks.merging.merge import check_ancestry
from weightzoo.tasks.merging.recipe import read_merge_recipe
from weightzoo.tasks.merging.similarity import column_similarity
from weightzoo.tasks.merging.zoo_rows import StateMember, last_checkpoints


def network(
    seed: int, base: Mapping[str, Tensor] | None = None, noise: float = 0.3
) -> dict[str, Tensor]:
    """Random weights, or a base with noise: its columns have a cosine of 1 / (1 + noise^2)."""
    draws = torch.Generator().manual_seed(seed)
    shapes = {
        "a.weight": (64, 32),
        "b.weight": (48, 64),
        "b.bias": (48,),
        "c.weight": (64, 4, 3, 3),
    }
    own = {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}
    return own if base is None else {n: base[n] + noise * own[n] for n in shapes}


def pool(**members: Mapping[str, Tensor]) -> ModelCollection:
    return ModelCollection([StateMember(name, state) for name, state in members.items()])


def named_groups(families: Families) -> list[set[str]]:
    return [{families.names[index] for index in group} for group in families.groups]


def test_planted_families_are_recovered_in_any_order() -> None:
    one, two = network(0), network(1)
    members = {f"a{i}": network(10 + i, one) for i in range(3)}
    members |= {f"b{i}": network(20 + i, two) for i in range(2)} | {"alone": network(2)}
    for names in (sorted(members), sorted(members, reverse=True)):
        found = find_families(pool(**{name: members[name] for name in names}))
        assert named_groups(found) == [{"a0", "a1", "a2"}, {"b0", "b1"}, {"alone"}]


def test_levels_tell_duplicates_families_and_shared_initialisations_apart() -> None:
    base = network(0)
    members = pool(
        one=network(1, base),
        two=network(2, base),
        copy=network(1, base),
        cousin=network(3, base, noise=3.0),
        other=network(9),
    )
    found = find_families(members)
    assert found.level(0, 2) == "duplicate"
    assert found.level(0, 1) == "family"
    assert found.level(0, 3) == "shared initialisation"
    assert found.level(0, 4) == "unrelated"
    assert named_groups(found) == [{"one", "two", "copy"}, {"cousin"}, {"other"}]


def test_unrelated_members_make_no_family() -> None:
    found = find_families(pool(**{f"m{seed}": network(seed) for seed in range(6)}))
    assert all(len(group) == 1 for group in found.groups)


def test_similarity_is_the_mean_cosine_of_columns_and_its_error_is_honest() -> None:
    base = network(0)
    members = pool(one=network(1, base), two=network(2, base))
    whole = column_similarity(members, columns=10**6)
    cosines = [
        torch.cosine_similarity(x.flatten(1), y.flatten(1), dim=0).mean()
        for name in ("a.weight", "b.weight", "c.weight")
        for x, y in [[m.read(name).double() for m in members.members]]
    ]
    assert float(whole.mean_MM[0, 1]) == pytest.approx(float(sum(cosines) / 3), abs=1e-6)
    assert float(whole.error_MM[0, 1]) == 0
    drawn = [column_similarity(members, columns=8, seed=seed) for seed in range(60)]
    spread = torch.stack([one.mean_MM[0, 1] for one in drawn]).std()
    stated = torch.stack([one.error_MM[0, 1] for one in drawn]).mean()
    assert float(stated / spread) == pytest.approx(1, abs=0.35)


def test_gates_keep_other_shapes_and_tokenizers_apart(tmp_path: Path) -> None:
    for name, tokens, words in (("a", 12, "x"), ("b", 12, "x"), ("c", 12, "y"), ("d", 13, "x")):
        make_checkpoint(tmp_path / name, llama_tensors(0, tokens=tokens), vocabulary=words)
    from weightzoo.loaders.collections import open_collection

    found = find_families(open_collection([tmp_path]))
    assert len(set(found.gates)) == 3
    assert "tokenizer" in found.reasons[0] and "tensors" in found.reasons[1]
    assert found.level(0, 1) == "duplicate" and found.level(0, 2) == "unrelated"


def test_permuted_copy_is_recognised_only_after_alignment(
    trained_zoo: Path, tmp_path: Path
) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train")).select([0, 1, 2])
    permutations = HiddenPermutations.of(zoo.header.architecture)  # type: ignore[arg-type]
    drawn = permutations.random_permutations(torch.Generator().manual_seed(0), 1)
    moved = permutations.apply(zoo.weights([0]), drawn)[0]
    zoo.save(tmp_path / "zoo.h5")
    file = load_zoo(tmp_path / "zoo.h5", split="train").source.files[0]
    file.map_weights("r+")[2] = moved.numpy()
    loaded = load_zoo(tmp_path / "zoo.h5", split="train")
    assert find_zoo_families(loaded).level(0, 2) != "duplicate"
    aligned = find_zoo_families(loaded, aligned=True)
    assert aligned.level(0, 2) == "duplicate" and aligned.level(0, 1) != "duplicate"


def test_base_that_is_no_ancestor_is_warned_of_with_the_figure() -> None:
    base, recipe = network(0), read_merge_recipe({"method": "ties", "members": ["-"], "base": "b"})
    child, stranger = network(1, base), network(2)
    check_ancestry(ModelCollection([StateMember("child", child)], StateMember("b", base)), recipe)
    with pytest.warns(UserWarning, match=r"no ancestor of x: .* cosine of -?0\.0"):
        check_ancestry(
            ModelCollection([StateMember("x", stranger)], StateMember("b", base)), recipe
        )


def test_command_prints_families_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("one", 0), ("copy", 0), ("other", 1)):
        make_checkpoint(tmp_path / "pool" / name, llama_tensors(seed))
    command = ["families", str(tmp_path / "pool"), "--plot", str(tmp_path / "a.png")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "family 1 (2)" in text and "duplicate: " in text and "standard error" in text
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["families"]) == 2
    assert main([*command[:2], "--align"]) == 1


def test_report_of_one_member_has_nothing_to_compare(tmp_path: Path) -> None:
    found = find_families(pool(one=network(0)))
    assert families_text(found) == "family 1 (1): one"
    plot_families(found, tmp_path / "a.png")
