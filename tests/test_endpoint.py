"""A model behind a server answers as it does in this process; what a server cannot do is refused; what fails is tried again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import DataError, PolicyError, RecipeError, StorageError
from configs.prompts import Branch
from configs.records import Scorecard
from eval.answers import read_answers
from eval.characters import byte_tokenizer, messages_of, plain_text
from eval.endpoint import CONCURRENCY, endpoint
from eval.http_json import KEY, Server, server_at
from tests.recipes import sectorlm
from tests.small_server import Small, serving
from tests.test_evaluate import made

TASKS = "moods.yaml,written.yaml,passages.yaml"


@pytest.fixture(scope="module")
def here(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tasks, and the tiny model's own scorecard on them."""
    folder = tmp_path_factory.mktemp("served")
    made(folder, tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        told = sectorlm("score", tiny_base, "--tasks", TASKS, "--out", "own")
    assert told.code == 0, told.err
    return folder


@pytest.fixture(autouse=True)
def _stand_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr("eval.http_json.FIRST", 0.01)
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture(scope="module")
def small(tiny_base: Path) -> Small:
    return Small(tiny_base)


@pytest.fixture
def url(small: Small):
    small.can |= {"completions": True, "echo": True, "ids": True, "key": None}
    small.asked.clear()
    with serving(small) as found:
        yield found


def scored(url: str, *words: str, tasks: str = TASKS, out: str) -> tuple[Scorecard, dict]:
    told = sectorlm("score", f"{url}#tiny", "--tasks", tasks, "--out", out, *words)
    assert told.code == 0, told.err
    [folder] = Path(out).iterdir() if Path(out).is_dir() else []
    return Scorecard.read(folder / "scorecard.json"), read_answers(folder / "answers.jsonl")


def folder_of(out: str) -> Path:
    return next(path.parent for path in Path(out).glob("*/scorecard.json"))


def own(tiny_base: Path) -> dict:
    return read_answers(Path("own") / tiny_base.name / "answers.jsonl")


def test_by_token_ids_likelihoods_agree_to_a_ten_thousandth_and_texts_are_the_same(url, small, tiny_base):
    told = sectorlm("score", f"{url}#tiny", "--tasks", TASKS, "--tokenizer", tiny_base, "--out", "ids")
    assert told.code == 0, told.err
    theirs, ours = read_answers(folder_of("ids") / "answers.jsonl"), own(tiny_base)
    for one, other in zip(ours["moods"], theirs["moods"], strict=True):
        assert other["loglikelihoods"] == pytest.approx(one["loglikelihoods"], abs=1e-4)
        assert (other["answer"], other["norm"]) == (one["answer"], one["norm"])
    assert [it["text"] for it in ours["written"]] == [it["text"] for it in theirs["written"]]
    assert [it["nats"] for it in theirs["passages"]] == pytest.approx([it["nats"] for it in ours["passages"]], abs=1e-3)
    assert all(isinstance(asked["prompt"], list) for path, asked, _ in small.asked if path == "/v1/completions")
    assert 1 < small.most_at_once <= CONCURRENCY


def test_without_the_tokenizer_texts_go_as_text_and_answers_are_cut_by_the_servers_offsets(url, small, tiny_base):
    told = sectorlm("score", f"{url}#tiny", "--tasks", "moods.yaml,written.yaml", "--out", "text")
    assert told.code == 0, told.err
    theirs, ours = read_answers(folder_of("text") / "answers.jsonl"), own(tiny_base)
    for one, other in zip(ours["moods"], theirs["moods"], strict=True):
        assert other["loglikelihoods"] == pytest.approx(one["loglikelihoods"], abs=1e-4)
    assert [it["text"] for it in ours["written"]] == [it["text"] for it in theirs["written"]]
    assert all(isinstance(asked["prompt"], str) for path, asked, _ in small.asked if path == "/v1/completions")


def test_a_passage_has_no_beginning_without_the_tokenizer_and_is_refused(url):
    told = sectorlm("score", f"{url}#tiny", "--tasks", "passages.yaml", "--out", "refused")
    assert told.code == 3
    assert "--tokenizer" in told.err


def test_in_the_chat_form_the_question_goes_as_a_users_message(url, small):
    told = sectorlm("score", f"{url}#tiny", "--tasks", "written.yaml", "--chat", "--out", "chat")
    assert told.code == 0, told.err
    [first, *_] = [asked for path, asked, _ in small.asked if path == "/v1/chat/completions"]
    assert [it["role"] for it in first["messages"]] == ["user"]
    assert first["messages"][0]["content"].startswith("The ") and first["messages"][0]["content"].endswith("\nMood:")
    assert (first["temperature"], first["max_tokens"], first["stop"]) == (0, 6, ["\n"])
    assert Scorecard.read(folder_of("chat") / "scorecard.json").scores[0].n == 24


@pytest.mark.parametrize("can", [{"echo": False}, {"completions": False}], ids=["no echo", "chat alone"])
def test_a_server_without_likelihoods_writes_and_is_refused_multiple_choice_before_it_is_asked(can, url, small):
    small.can |= can
    refused = sectorlm("score", f"{url}#tiny", "--tasks", TASKS, "--out", "refused")
    assert refused.code == 2
    assert "gives no log-likelihoods of texts, which moods.yaml, passages.yaml are scored by" in refused.err
    assert "generate_until" in refused.err
    done = sectorlm("score", f"{url}#tiny", "--tasks", "written.yaml", "--out", f"writes-{len(can)}-{'echo' in can}")
    assert done.code == 0, done.err


def test_a_server_that_wants_text_is_not_given_token_ids(url, small, tiny_base):
    small.can["ids"] = False
    told = sectorlm("score", f"{url}#tiny", "--tasks", "moods.yaml", "--tokenizer", tiny_base, "--out", "refused")
    assert (told.code, "Leave --tokenizer out" in told.err) == (3, True)


def test_the_key_comes_from_the_environment_and_stands_in_no_record_and_no_word(url, small, monkeypatch):
    small.can["key"] = "k-12345"
    assert sectorlm("score", f"{url}#tiny", "--tasks", "written.yaml", "--out", "keyed").code == 4
    monkeypatch.setenv(KEY, "k-12345")
    small.broken[:] = [503]
    told = sectorlm("score", f"{url}#tiny", "--tasks", "written.yaml", "--out", "keyed")
    assert told.code == 0, told.err
    assert "Bearer [SECTORLM_API_KEY]" not in told.out
    assert "k-12345" not in told.err + told.out
    assert all(b"k-12345" not in path.read_bytes() for path in Path("keyed").rglob("*") if path.is_file())
    assert {key for _, _, key in small.asked[-5:]} == {"Bearer k-12345"}


@pytest.mark.parametrize("broken", [[503, 429], ["cut"], [500]], ids=["busy", "cut off", "error"])
def test_what_a_later_try_may_not_meet_is_tried_again(broken, url, small):
    server = Server(url)
    small.broken[:] = list(broken)
    answer = server.ask("completions", {"prompt": "One", "max_tokens": 1})
    assert len(answer["choices"]) == 1
    assert small.broken == []


def test_six_tries_and_no_more_and_refusals_are_not_repeated(url, small):
    server = Server(url)
    small.broken[:] = [503] * 6
    with pytest.raises(StorageError, match="no answer in 6 tries"):
        server.ask("completions", {"prompt": "One", "max_tokens": 1})
    before = len(small.asked)
    small.broken[:] = [400]
    with pytest.raises(DataError, match="status 400"):
        server.ask("completions", {"prompt": "One", "max_tokens": 1})
    small.broken[:] = [403]
    with pytest.raises(PolicyError, match="refuses the key"):
        server.ask("completions", {"prompt": "One", "max_tokens": 1})
    assert len(small.asked) == before + 2


def test_a_redirect_is_refused_since_it_would_carry_the_key_away(url, small):
    small.broken[:] = [307]
    with pytest.raises(DataError, match="redirects"):
        Server(url).ask("completions", {"prompt": "One", "max_tokens": 1})


@pytest.mark.parametrize("body", ["no JSON", "[1]"])
def test_an_answer_in_another_form_is_an_error(body, url, small):
    small.broken[:] = [body]
    with pytest.raises(DataError, match="JSON"):
        Server(url).ask("completions", {"prompt": "One", "max_tokens": 1})


def test_an_answer_without_choices_or_with_too_few_likelihoods_is_an_error(url, small, tiny_base):
    found = endpoint(f"{url}#tiny", (), str(tiny_base)).open()
    small.broken[:] = [{"choices": []}]
    with pytest.raises(DataError, match="without choices"):
        found.texts([[5, 6]], ["\n"], 2)
    small.broken[:] = [{"choices": [{"text": "", "logprobs": {"token_logprobs": [None, -1.0]}}]}]
    with pytest.raises(DataError, match="log-likelihoods of 2 tokens do not cover a prompt of 3"):
        found.loglikelihoods([Branch([5, 6], [[7]])])


def test_a_wrong_name_is_told_the_names_that_there_are(url):
    with pytest.raises(RecipeError, match="There are: tiny"):
        endpoint(f"{url}#tinny", ())


def test_no_server_is_a_storage_error():
    with pytest.raises(StorageError, match="no answer in 6 tries"):
        server_at("http://127.0.0.1:9/v1").ask("models")


def test_answers_of_two_servers_are_kept_apart(url, small, tiny_base):
    """The URL is part of the key, and so is what a server says of itself; the time of asking is not."""
    one = endpoint(f"{url}#tiny", ())
    again = endpoint(f"{url}#tiny", ())
    with serving(small) as other_url:
        other = endpoint(f"{other_url}#tiny", ())
    assert one.digest == again.digest
    assert one.digest != other.digest
    assert one.digest != endpoint(f"{url}#tiny", (), str(tiny_base)).digest


def test_bytes_turn_back_into_the_text_and_the_conversation_that_was_meant():
    tokenizer = byte_tokenizer()
    text = "利率 <|im_end|> “up”\n  two  spaces"
    from configs.chat import ChatTokenizer
    from configs.prompts import Encoder

    ids = ChatTokenizer(tokenizer, "bytes").ids([text])[0]
    assert len(ids) == len(text.encode())
    assert plain_text(tokenizer, ids) == text
    [branch] = Encoder(tokenizer).turns([text], [()])
    assert messages_of(tokenizer, branch.context) == [{"role": "user", "content": text}]
    assert json.dumps(messages_of(tokenizer, ids)) == json.dumps([{"role": "user", "content": text}])
