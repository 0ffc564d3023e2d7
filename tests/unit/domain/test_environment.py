"""Variables that a job asks for: what is wrong with them, and where."""

from __future__ import annotations

import pytest

from dms.domain.environment import MOST_BYTES, SEALED, own_name, problems_of_environment


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("A_1", "any text: ü€", ""),
        ("_a", "", ""),
        ("1A", "x", "'1A' is not a name of a variable: letters, digits and '_', no digit first"),
        ("Ä", "x", "'Ä' is not a name of a variable: letters, digits and '_', no digit first"),
        ("-" * 65, "x", f"'{'-' * 64}' is not a name of a variable: letters, digits and '_', no digit first"),
        ("HOME", "x", "HOME is set by the provider; choose another name"),
        ("A", "a\0b", "has a NUL character, which no program can be given"),
        ("A", "\ud7ff\ue000", ""),
        ("A", "\ud800", "is not text that can be passed on"),
        ("A", "ü\udfff", "is not text that can be passed on"),
    ],
)
def test_a_variable_that_can_not_be_passed_on_is_told_at_its_place(name: str, value: str, told: str) -> None:
    place = name[:64]
    expected = [told] if told else []
    assert problems_of_environment({name: value}, {}) == [(f"/params/env/{place}", text) for text in expected]
    assert problems_of_environment({}, {name: value}) == [(f"/params/secret_env/{place}", text) for text in expected]


def test_a_name_is_escaped_in_its_pointer() -> None:
    assert [place for place, _ in problems_of_environment({"a/b~c": "x"}, {})] == ["/params/env/a~1b~0c"]


def test_a_variable_is_either_secret_or_not() -> None:
    assert problems_of_environment({"A": "x"}, {"A": "y"}) == [("/params/secret_env/A", "is in env as well")]


@pytest.mark.parametrize(
    ("env", "secret", "size"),
    [
        ({"AB": "x" * (MOST_BYTES - 2)}, {}, 0),
        ({"AB": "x" * (MOST_BYTES - 1)}, {}, MOST_BYTES + 1),
        ({"A": "ü" * (MOST_BYTES // 2)}, {}, MOST_BYTES + 1),  # two bytes each
        ({"A": "x" * (MOST_BYTES - 2)}, {"B": ""}, 0),
        ({"A": "x" * (MOST_BYTES - 2)}, {"B": "y"}, MOST_BYTES + 1),
        # a sealed one counts as what it holds: 4 characters for 3 bytes, less a nonce and a tag of 28 bytes
        ({"A": "x" * (MOST_BYTES - 4)}, {"B": f"{SEALED}v1.key.{'A' * 40}"}, 0),
        ({"A": "x" * (MOST_BYTES - 4)}, {"B": f"{SEALED}v1.key.{'A' * 44}"}, MOST_BYTES + 3),
        ({"A": "x" * (MOST_BYTES - 2)}, {"B": f"{SEALED}v1.key.{'A' * 8}"}, 0),
        ({}, {"B": "y" * MOST_BYTES + ".z"}, MOST_BYTES + 3),
        ({}, {"B": SEALED + "y" * (MOST_BYTES - 7)}, MOST_BYTES + 1),
    ],
)
def test_all_variables_together_are_counted_as_a_program_gets_them(
    env: dict[str, str], secret: dict[str, str], size: int
) -> None:
    told = [("/params/env", f"names and values have {size} bytes, at most {MOST_BYTES} can be passed on")]
    assert problems_of_environment(env, secret) == (told if size else [])


def test_too_many_variables_are_counted() -> None:
    env = {f"A{number}": "" for number in range(100)}
    assert problems_of_environment(env, {f"B{number}": "" for number in range(28)}) == []
    found = problems_of_environment(env, {f"B{number}": "" for number in range(29)})
    assert found == [("/params/env", "129 variables, at most 128")]


@pytest.mark.parametrize(
    ("name", "own"),
    [("home", True), ("HOMES", False), ("Ld_x", True), ("DMS_", True), ("ADMS_X", False), ("nvidia_x", True)],
)
def test_the_providers_own_names_in_any_case(name: str, own: bool) -> None:
    assert own_name(name) is own
