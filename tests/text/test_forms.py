"""Forms become grammars in the text process, and what no answer can be held to is refused by name and path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.link.forms import ChoiceForm, Form, GrammarForm, RegexForm
from mlx_sidecar.link.text_messages import Constrain, Constrained, ModelFolder, TextRefused
from mlx_sidecar.text.forms import keywords
from mlx_sidecar.text.forms.grammars import grammar_of
from mlx_sidecar.text.server import TextServer
from mlx_sidecar_protocol.errors import InvalidParams
from tests.support.forms import accepts, json_form, schema_grammar, thought

FIELD = ["response_format"]
SCHEMA = [*FIELD, "schema"]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def refused(form: Form) -> tuple[list[str | int], str]:
    """The place at fault, and the message."""
    with pytest.raises(InvalidParams) as caught:
        grammar_of(form)
    [error] = caught.value.details["errors"]
    return error["loc"], error["msg"]


def member(**keywords: Any) -> dict[str, Any]:
    """A schema of objects with one member."""
    return {"type": "object", "properties": {"a": keywords}, "required": ["a"]}


# JSON.


def test_an_answer_has_one_space_behind_commas_and_colons_and_no_other() -> None:
    grammar = schema_grammar(PERSON)
    assert accepts(grammar, '{"name": "Ada", "age": 36}')
    for text in ('{"name":"Ada","age":36}', '{ "name": "Ada", "age": 36}', '{"name": "Ada",\n"age": 36}'):
        assert not accepts(grammar, text)


def test_flexible_white_space_ends_after_eight() -> None:
    grammar = schema_grammar(PERSON, fixed=False)
    assert accepts(grammar, '{"name":"Ada",\n\t\r\n    "age" : 36 }')
    for spaces in (8, 9):
        assert accepts(grammar, '{"name":"Ada","age":' + " " * spaces + "36}") == (spaces == 8)


def test_members_come_in_the_order_of_the_schema() -> None:
    assert not accepts(schema_grammar(PERSON), '{"age": 36, "name": "Ada"}')


UNSUPPORTED: list[tuple[str, Any]] = [
    ("not", {"type": "string"}),
    ("if", {"type": "string"}),
    ("then", {}),
    ("else", {}),
    ("contains", {"type": "string"}),
    ("minContains", 1),
    ("maxContains", 1),
    ("uniqueItems", True),
    ("unevaluatedItems", False),
    ("unevaluatedProperties", False),
    ("dependentRequired", {"a": ["b"]}),
    ("dependentSchemas", {"a": {}}),
    ("dependencies", {"a": ["b"]}),
    ("propertyNames", {"pattern": "a"}),
    ("contentEncoding", "base64"),
    ("contentMediaType", "text/html"),
    ("contentSchema", {}),
    ("$dynamicRef", "#a"),
    ("$recursiveRef", "#"),
    ("nullable", True),
    ("x-unknown", 1),
    ("minimun", 3),
]


@pytest.mark.parametrize(("keyword", "value"), UNSUPPORTED)
def test_a_keyword_that_no_answer_is_held_to_is_refused_by_name_and_path(keyword: str, value: Any) -> None:
    loc, message = refused(json_form({"type": "array", "prefixItems": [{}, member(**{keyword: value})]}))
    assert loc == [*SCHEMA, "prefixItems", 1, "properties", "a", keyword]
    assert keyword in message
    assert f"#/prefixItems/1/properties/a/{keyword}" in message


@pytest.mark.parametrize(
    ("keyword", "schema"),
    [
        ("$ref", {"$ref": "https://example.org/person.json"}),
        ("$ref", {"$ref": "person.json"}),
        ("$ref", {"$ref": "#/$defs/missing"}),
        ("format", {"type": "string", "format": "idn-email"}),
        ("format", {"format": "regex"}),
        ("format", {"format": ["date"]}),
        ("pattern", {"type": "string", "pattern": "(?=a)b"}),
        ("pattern", {"type": "string", "pattern": "("}),
        ("oneOf", {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 2}]}),
        ("type", {"type": "strin"}),
        ("multipleOf", {"type": "number", "multipleOf": 0}),
        ("required", {"type": "object", "required": "b"}),
    ],
)
def test_a_keyword_whose_value_cannot_be_kept_to_is_refused_by_name_and_path(
    keyword: str, schema: dict[str, Any]
) -> None:
    loc, message = refused(json_form(member(**schema)))
    assert loc == [*SCHEMA, "properties", "a", keyword]
    assert message


def test_a_fault_in_a_definition_is_named_there_and_not_where_it_is_used() -> None:
    schema = {**member(**{"$ref": "#/$defs/x"}), "$defs": {"x": member(type="string", pattern="(?<=a)b")}}
    loc, _ = refused(json_form(schema))
    assert loc == [*SCHEMA, "$defs", "x", "properties", "a", "pattern"]


def test_what_nothing_satisfies_is_refused() -> None:
    impossible: dict[str, Any]
    for impossible in ({"type": "integer", "minimum": 5, "maximum": 2}, {"enum": []}, {"type": "string", "enum": [1]}):
        loc, message = refused(json_form(member(**impossible)))
        assert loc[:2] == SCHEMA
        assert "nsatisfiable" in message


def test_options_of_the_library_are_not_the_hosts_to_set() -> None:
    loc, _ = refused(json_form({"x-guidance": {"lenient": True}, "type": "object"}))
    assert loc == [*SCHEMA, "x-guidance"]


def test_annotations_and_free_values_are_no_keywords() -> None:
    notes: dict[str, Any] = {
        name: {"not": {}} for name in keywords.ANNOTATIONS if not name.startswith("$") and name != "id"
    }
    schema = member(**notes, const={"not": 1, "x-unknown": 2})
    assert accepts(schema_grammar(schema), '{"a": {"not": 1, "x-unknown": 2}}')


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"type": "object", "properties": {"not": {"type": "boolean"}, "$ref": {}}, "required": ["not"]}
    assert accepts(schema_grammar(schema), '{"not": true}')


def test_formats_say_something_of_strings_alone() -> None:
    assert accepts(schema_grammar(member(type="integer", format="int32")), '{"a": 5}')
    assert not accepts(schema_grammar(member(type="string", format="date")), '{"a": "soon"}')


def test_numbers_that_json_does_not_hold_are_refused() -> None:
    loc, message = refused(json_form(member(type="number", minimum=float("inf"))))
    assert (loc, "Infinity" in message) == (SCHEMA, True)


# Other forms.


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("a/b", "a/b", "ab"),
        (r"a\/b", "a/b", r"a\/b"),
        ("a\nb", "a\nb", "ab"),
        ("[/]+", "//", "a"),
        (r"\p{L}+", "äß", "1"),
        ("yes|no", "no", "yes|no"),
        ('"x"', '"x"', "x"),
        (r"\d{3}-\d{4}", "555-0123", "555-012"),
    ],
)
def test_a_regular_expression_matches_the_whole_answer(pattern: str, good: str, bad: str) -> None:
    grammar = grammar_of(RegexForm(pattern))
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)


@pytest.mark.parametrize("pattern", ["(?=a)b", r"\bword", "(", "\\", r"(a)\1", "a{5,2}"])
def test_a_regular_expression_that_cannot_be_kept_to_is_refused(pattern: str) -> None:
    loc, message = refused(RegexForm(pattern))
    assert loc == [*FIELD, "pattern"]
    assert "start:" not in message


CHOICES = ["a", "ab", 'a "quoted"\\\n\u0001 one', "<|im_start|>", "/x/ // y", "ü", " padded "]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True), st.text(max_size=12))
def test_a_choice_is_one_of_its_texts_to_the_letter(choices: list[str], other: str) -> None:
    grammar = grammar_of(ChoiceForm(choices))
    assert all(accepts(grammar, choice) for choice in choices)
    assert accepts(grammar, other) == (other in choices)


def test_choices_may_hold_anything_that_grammars_use() -> None:
    grammar = grammar_of(ChoiceForm(CHOICES))
    assert all(accepts(grammar, choice) for choice in CHOICES)


SUMS = """start: sum
sum: NUMBER | sum " + " NUMBER // left-recursive
NUMBER: /[0-9]+/"""


def test_a_grammar_in_lark_syntax_is_taken_as_it_is() -> None:
    grammar = grammar_of(GrammarForm("lark", SUMS))
    assert accepts(grammar, "1 + 22 + 3")
    assert not accepts(grammar, "1 +")


def test_schemas_in_a_grammar_have_bounded_white_space_and_known_keywords() -> None:
    grammar = grammar_of(GrammarForm("lark", 'start: "= " %json {"type": "object", "properties": {}}'))
    assert accepts(grammar, "= {" + " " * 8 + "}")
    assert not accepts(grammar, "= {" + " " * 9 + "}")
    loc, _ = refused(GrammarForm("lark", 'start: %json {"type": "string", "contentEncoding": "base64"}'))
    assert loc == [*FIELD, "grammar", "contentEncoding"]


@pytest.mark.parametrize(
    "grammar",
    [
        "start: <|im_start|>",
        "start: <[151643]>",
        "start: <[^1-100]>",
        'start: "a" | <think> "b"',
        "start: @form",
        '%llguidance {"no_forcing": true}\nstart: "a"',
        "start: x\nx[temperature=2.0]: /a+/",
        "start: x\nx[max_tokens=2]: /a+/",
        'start: x\nx[stop=""]: /a+/',
        "start: %json [1]",
        "start: %json",
        'start: %json {"x-guidance": {"lenient": true}}',
        'begin: "a"',
        'start: "a',
        "start: missing",
    ],
)
def test_a_grammar_describes_text_and_nothing_beside_it(grammar: str) -> None:
    loc, message = refused(GrammarForm("lark", grammar))
    assert (loc, bool(message)) == ([*FIELD, "grammar"], True)


def test_what_looks_like_a_special_token_in_a_literal_is_text() -> None:
    grammar = grammar_of(GrammarForm("lark", 'start: "<|im_start|>" /<b>/ // <c> @d\n'))
    assert accepts(grammar, "<|im_start|><b>")


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "yes" | "no"', "no", "maybe"),
        ('root ::= [a-z/]+ "\\u0041\\x42"', "x/AB", "xAC"),
        ("root ::= .", "\n", "ab"),
        ('root ::= item{2,3}\nitem ::= [^"\\\\] ","', "a,b,", "a,"),
        ('# <comment>\nroot ::= "é\\u00e9\\U0001F600"', "éé😀", "é"),
        ('root ::= root "a" | "a"', "aaa", ""),
    ],
)
def test_a_grammar_in_gbnf_means_what_it_means_to_llama_cpp(grammar: str, good: str, bad: str) -> None:
    made = grammar_of(GrammarForm("gbnf", grammar))
    assert accepts(made, good)
    assert not accepts(made, bad)


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= <think> "a"',
        "root ::= !<[1]>",
        "root ::= missing",
        'other ::= "a"',
        'root ::= "a" ::',
        'root ::= "\\q"',
        'root ::= "\\ud800"',
        "root ::= " + "(" * 3000 + '"a"' + ")" * 3000,
    ],
)
def test_gbnf_that_is_not_understood_is_refused(grammar: str) -> None:
    loc, message = refused(GrammarForm("gbnf", grammar))
    assert (loc, bool(message)) == ([*FIELD, "grammar"], True)


# Reasoning.


def test_a_form_begins_behind_reasoning_that_the_prompt_has_opened() -> None:
    grammar = schema_grammar(PERSON, "open")
    answer = '{"name": "Ada", "age": 36}'
    assert accepts(grammar, f"Hm, {{ 36?\n</think>\n\n{answer}")
    assert accepts(grammar, f"</think>{answer}")
    assert not accepts(grammar, answer)
    assert not accepts(grammar, f"a</think>b</think>{answer}")


def test_reasoning_may_precede_a_form_where_the_template_knows_it() -> None:
    grammar = grammar_of(ChoiceForm(["yes", "no"]), thought("optional"))
    assert accepts(grammar, "no")
    assert accepts(grammar, "<think>\nOr yes?\n</think>\n\nno")
    assert not accepts(grammar, "Or yes?</think>no")


# Hostile forms: each is answered in its time, most of them with a refusal.


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE: list[Form] = [
    json_form(nested(120)),
    json_form(nested(400)),
    json_form({"type": "object", "properties": {f"k{i}": {"$ref": "#"} for i in range(200)}}),
    json_form({"$ref": "#"}),
    json_form({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
    json_form({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
    json_form({"type": "string", "pattern": "(a{1,1000}){1,1000}", "maxLength": 10**9}),
    json_form({"allOf": [{"anyOf": [{"properties": {f"{i} {j}": {}}} for j in range(10)]} for i in range(12)]}),
    json_form({"enum": ["x" * 2**20]}),
    json_form({"type": ["string"] * 1000, "required": ["a"] * 1000}),
    RegexForm("(a?){60000}"),
    RegexForm("(x+x+)+y"),
    RegexForm("(" * 20_000 + "a" + ")" * 20_000),
    RegexForm("[a-z]{1,60000}" * 100),
    ChoiceForm([f"{i} " * 800 for i in range(200)]),
    GrammarForm("lark", "start: " + "(" * 100_000),
    GrammarForm("lark", "start: start start"),
    GrammarForm("lark", "start: A\nA: A"),
    GrammarForm("lark", "start: %json " + "[" * 100_000),
    GrammarForm("gbnf", "root ::= " + '"a" ' * 10_000),
    GrammarForm("lark", "start: r0\n" + "".join(f'r{n}: "a" r{n + 1}\n' for n in range(14_000)) + 'r14000: "b"'),
    GrammarForm("lark", "start: R0\n" + "".join(f'R{n}: "a" R{n + 1}\n' for n in range(14_000)) + 'R14000: "b"'),
    json_form({"$ref": "#/$defs/0", "$defs": {f"{n}": {"$ref": f"#/$defs/{n + 1}"} for n in range(20_000)}}),
]


@pytest.mark.parametrize("form", HOSTILE, ids=lambda form: str(form)[:40])
def test_a_hostile_form_is_compiled_or_refused_and_the_next_one_is_answered(form: Form) -> None:
    server, folder = TextServer(lambda processor_s: None), ModelFolder("response_format", "form")
    answer = server.answer(Constrain(1, folder, form))
    assert isinstance(answer, Constrained | TextRefused)
    if isinstance(answer, TextRefused):
        assert answer.fault.kind == "invalid_params"
        assert len(answer.fault.message) < 20_000
    assert isinstance(server.answer(Constrain(2, folder, RegexForm("a"))), Constrained)


def test_a_fault_of_the_library_is_the_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):  # the name that the library's has
        pass

    def panic(grammar: str) -> None:
        raise PanicException

    monkeypatch.setattr("mlx_sidecar.text.forms.grammars.fault_of_grammar", panic)
    answer = TextServer(lambda processor_s: None).answer(
        Constrain(1, ModelFolder("response_format", "f"), RegexForm("a"))
    )
    assert isinstance(answer, TextRefused)
    assert (answer.fault.kind, answer.fault.details["field"]) == ("invalid_params", "response_format")


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(sorted(keywords.ENFORCED | keywords.ANNOTATIONS)), inner, max_size=3)
), max_leaves=8))  # fmt: skip
def test_any_schema_is_compiled_or_refused_with_a_place_in_it(value: Any) -> None:
    schema = value if isinstance(value, dict) else {"const": value}
    try:
        grammar_of(json_form(schema))
    except InvalidParams as refusal:
        [error] = refusal.details["errors"]
        assert error["loc"][:2] == SCHEMA
        at: Any = schema
        for part in error["loc"][2:]:
            at = at[part]
        json.dumps(at)
