"""The gate before gigatoken: it is used where its ids are equal, and the ids are the same where it is not."""

import sys

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from configs.base import CHATML, load_tokenizer
from configs.chat import Message
from configs.errors import RecipeError
from configs.speed import fast_wanted
from data_prep.documents import Document
from data_prep.gigatokens import EDGES, SAMPLED, sampled
from data_prep.tokens import Encoder

pytest.importorskip("gigatoken")

TEXTS = [
    Document(str(n), "s", "w", text=f"Rate {n} rose. 利率{n}。<|endoftext|> {edge}") for n, edge in enumerate(EDGES)
]
TALKS = [
    Document(text.id, "s", "w", messages=(Message("user", text.text.strip()), Message("assistant", "up <|im_end|>")))
    for text in TEXTS
]


def ids(encoder):
    return [(found.tokens_T.tolist(), found.supervised_T.tolist()) for found in encoder.encode(TEXTS + TALKS)]


@pytest.fixture
def folder(tiny_base, tmp_path):
    def make(*added):
        tokenizer = load_tokenizer(tiny_base)
        tokenizer.add_tokens(list(added))
        tokenizer.chat_template = CHATML
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return make


@pytest.mark.parametrize("form", ["chat", "plain"])
def test_equal_ids_let_gigatoken_work_and_tokens_and_mask_stay_the_same(folder, form):
    slow, fast = Encoder(folder(), "tiny", form), Encoder(folder(), "tiny", form)
    assert fast.hasten(TEXTS) == ""
    assert fast.encode_one is not None and slow.encode_one is None
    assert ids(fast) == ids(slow)


def test_other_ids_keep_tokenizers_at_work_and_the_reason_names_the_string(folder):
    """Two spaces as a token of their own: gigatoken splits before it looks for them."""
    spaces = folder(AddedToken("  ", normalized=False), AddedToken("    "))
    encoder = Encoder(spaces, "spaces", "plain")
    assert encoder.hasten([]).startswith("gigatoken gives other ids for ")
    assert ids(encoder) == ids(Encoder(spaces, "spaces", "plain"))


def test_a_tokenizer_that_gigatoken_does_not_know_is_left_to_tokenizers(tmp_path):
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"</s>": 0, "rates": 1}, unk_token="</s>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(tmp_path)
    assert Encoder(tmp_path, "words", "plain").hasten([]).startswith("gigatoken does not know this tokenizer (")


def test_without_the_package_the_reason_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert Encoder(folder(), "tiny", "plain").hasten([]) == "gigatoken is not installed (pip install 'sectorlm[fast]')"


def test_the_switch_turns_it_off_and_knows_two_words(folder, monkeypatch):
    monkeypatch.setenv("SECTORLM_FAST", "off")
    assert Encoder(folder(), "tiny", "plain").hasten(TEXTS) == "SECTORLM_FAST is off"
    monkeypatch.setenv("SECTORLM_FAST", "yes")
    with pytest.raises(RecipeError, match="expected auto or off, got 'yes'"):
        fast_wanted()


def test_2000_of_3000_documents_are_compared_whatever_their_order():
    names = [f"{number:04}" for number in range(3000)]
    chosen = {names[place] for place in sampled(names)}
    assert len(chosen) == SAMPLED == 2000
    assert {names[::-1][place] for place in sampled(names[::-1])} == chosen
    assert sampled(names[:50]) == list(range(50))
