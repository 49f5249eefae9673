"""The file of providers: what it says, and the path in each error."""

from __future__ import annotations

import pytest

from mlx_sidecar_gateway.providers.directory import Providers
from mlx_sidecar_gateway.providers.table import Route, TableError, UpstreamProvider, chain
from mlx_sidecar_gateway.providers.table_file import read_table

GOOD = """
providers:
  second: {kind: sidecar, options: [--engine, fake]}
  far:
    kind: openai
    base_url: https://far.example/v1/
    key_env: FAR_KEY
    accepts: [top_k]
    refuses: [seed]
models:
  fast:
    - {provider: local, model: pocket}
    - {provider: far, model: big, weight: 3}
    - {provider: second, model: pocket, weight: 1}
aliases:
  gpt: fast
retry: {ratio: 0.2}
"""


def test_a_file_has_providers_models_and_aliases() -> None:
    table = read_table(GOOD)
    assert table.names == ("fast", "gpt")
    assert [route.provider for route in table.routes("gpt")] == ["local", "far", "second"]
    assert table.models_at("second") == ["pocket"]
    far = table.providers["far"]
    assert isinstance(far, UpstreamProvider)
    assert far.base_url == "https://far.example/v1"
    assert "top_k" in far.honoured
    assert "seed" not in far.honoured
    assert table.retry.ratio == 0.2
    assert table.retry.rounds == 2


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("provider: far, model: big", "provider: fra, model: big", "models.fast[1].provider: there is no 'fra'"),
        ("weight: 3", "weight: many", "models.fast[1].weight: "),
        ("weight: 3", "weights: 3", "models.fast[1].weights: "),
        ("weight: 3", "weight: -1", "models.fast[1].weight: "),
        ("model: big, weight: 3", "weight: 3", "models.fast[1].model: "),
        ("kind: openai", "kind: opneai", "providers.far.kind: must be sidecar, openai or anthropic"),
        ("https://far.example/v1/", "far.example", "providers.far.base_url: must begin with http"),
        ("https://far.example/v1/", "https://me:key@far.example", "providers.far.base_url: must have no user"),
        ("accepts: [top_k]", "accepts: [topk]", "providers.far: accepts: 'topk' is not one of"),
        ("kind: openai", "kind: anthropic", "providers.far: base_url: must be without /v1"),
        ("key_env: FAR_KEY", "key: sk-1", "providers.far.key: "),
        ("  second:", "  local:", "providers.local: this name"),
        ("options: [--engine, fake]", "options: [1]", "providers.second.options[0]: "),
        ("gpt: fast", "gpt: slow", "aliases.gpt: 'slow' is not in models"),
        ("gpt: fast", "fast: fast", "aliases.fast: models has this name, too"),
        ("retry: {ratio: 0.2}", "retry: {ratio: 2}", "retry.ratio: "),
        ("retry: {ratio: 0.2}", "retries: {}", "retries: there is no such member"),
        ("kind: sidecar,", "kind: sidecar, kind: openai,", "'kind' stands twice"),
        ("retry: {ratio: 0.2}", "retry: {", "it is not YAML"),
    ],
)
def test_an_error_names_the_path_to_the_member(old: str, new: str, path: str) -> None:
    assert old in GOOD
    with pytest.raises(TableError) as caught:
        read_table(GOOD.replace(old, new))
    assert path in str(caught.value)


def test_a_file_without_models_is_refused() -> None:
    with pytest.raises(TableError, match="models: is needed"):
        read_table("")
    with pytest.raises(TableError, match=r"models.a: must be a list"):
        read_table("models: {a: {provider: local, model: m}}")
    with pytest.raises(TableError, match=r"models.a\[0\].weight"):
        read_table("models: {a: [{provider: local, model: m, weight: 0}]}")


def test_a_key_that_the_environment_has_not_is_told_by_its_path() -> None:
    with pytest.raises(TableError, match=r"providers.far.key_env: the environment has no FAR_KEY"):
        Providers(read_table(GOOD), lambda: pytest.fail("asked"), {})


def test_the_first_of_a_chain_is_drawn_by_weight_and_the_others_follow_in_their_order() -> None:
    routes = [Route(provider=name, model="m", weight=weight) for name, weight in (("a", 0), ("b", 3), ("c", 1))]
    drawn = [[route.provider for route in chain(routes, draw / 100)] for draw in range(100)]
    assert drawn.count(["b", "a", "c"]) == 75
    assert drawn.count(["c", "a", "b"]) == 25
    plain = [Route(provider=name, model="m") for name in "abc"]
    assert [route.provider for route in chain(plain, 0.99)] == ["a", "b", "c"]
