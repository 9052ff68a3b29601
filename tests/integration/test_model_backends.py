"""The model backends, loaded the way a user's models are: from small models of transformers on disk."""

import pickle

import pytest

from traceai_vllm.evals import EvaluationError, Groundedness
from traceai_vllm.evals.backends import NLIChecker, TokenDetector

WORDS = "plan b covers dental claims after 90 180 days . it needs no form passage : 1 2 3 summarize the following text"
ANSWER = "Plan B covers dental claims after 90 days. It needs no form."
CONTEXT = "Plan B covers dental claims after 180 days."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A token classifier to which `90` is unsupported, and an NLI model with random weights."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertTokenizerFast,
    )

    root = tmp_path_factory.mktemp("models")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    vocabulary_file = root / "vocab.txt"
    vocabulary_file.write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(vocab=str(vocabulary_file), do_lower_case=True, model_max_length=128)
    shape = {"vocab_size": len(vocabulary), "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(7)
    config = BertConfig(**shape, num_hidden_layers=0, num_labels=2, max_position_embeddings=128)
    detector = BertForTokenClassification(config)
    with torch.no_grad():
        for table in (detector.bert.embeddings.position_embeddings, detector.bert.embeddings.token_type_embeddings):
            table.weight.zero_()
        wrong = vocabulary.index("90")
        detector.bert.embeddings.word_embeddings.weight[:, 0] = -9.0
        detector.bert.embeddings.word_embeddings.weight[wrong, 0] = 9.0
        detector.classifier.weight.zero_()
        detector.classifier.weight[1, 0] = 2.0
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    nli = BertForSequenceClassification(
        BertConfig(**shape, num_hidden_layers=1, num_labels=3, id2label=labels, max_position_embeddings=128)
    )
    for name, model in (("detector", detector), ("nli", nli)):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def test_the_detectors_tokens_become_ranges_of_the_answer(models):
    result = Groundedness(checker=TokenDetector(str(models / "detector"), device="cpu")).evaluate(
        response=ANSWER, context=CONTEXT, question="after 180 days"
    )
    assert [ANSWER[start:end] for start, end in result.unsupported] == ["90"]
    assert result.label == "partly_grounded"
    assert result.counts == {"claims": 2, "supported": 1, "unsupported": 1}


def test_a_long_context_is_read_in_groups_of_passages(models):
    detector = TokenDetector(str(models / "detector"), device="cpu")
    context = "\n\n".join([CONTEXT] * 30)
    assert len([*detector._groups(context.split("\n\n"), ANSWER, None)]) > 2
    assert [round(v.unsupported) for v in detector.check(ANSWER, context)] == [1, 0]


def test_what_does_not_fit_is_an_error_and_no_score(models):
    detector = TokenDetector(str(models / "detector"), device="cpu")
    with pytest.raises(EvaluationError, match="does not fit into the 128 tokens"):
        detector.check(ANSWER * 10, CONTEXT)
    with pytest.raises(EvaluationError, match="does not fit into the 128 tokens"):
        NLIChecker(str(models / "nli"), device="cpu").check("no " * 150, CONTEXT)


def test_nli_is_what_the_model_says_of_the_best_window(models):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models / "nli")
    model = AutoModelForSequenceClassification.from_pretrained(models / "nli").eval()

    def entailment(premise, claim):
        with torch.no_grad():
            return model(**tokenizer(premise, claim, return_tensors="pt")).logits.softmax(-1)[0, 1].item()

    checker = NLIChecker(str(models / "nli"), device="cpu")
    (verdict,) = checker.check("It needs no form.", CONTEXT)
    assert verdict.unsupported == pytest.approx(1 - entailment(CONTEXT, "It needs no form."), abs=1e-5)
    (long,) = checker.check("It needs no form.", " ".join([CONTEXT] * 20))
    assert 0 < long.unsupported <= 1 - entailment(CONTEXT, "It needs no form.") + 0.2
    batched = NLIChecker(str(models / "nli"), device="cpu", batch_size=2)
    assert batched.check("It needs no form.", " ".join([CONTEXT] * 20))[0].unsupported == pytest.approx(
        long.unsupported, abs=1e-5
    )


def test_a_model_that_cannot_be_used_says_why(models, tmp_path):
    with pytest.raises(EvaluationError, match="hf download nobody/no-model"):
        TokenDetector("nobody/no-model").check(ANSWER, CONTEXT)
    with pytest.raises(EvaluationError, match="none is entailment"):
        NLIChecker(str(models / "detector"), device="cpu").check(ANSWER, CONTEXT)


def test_a_loaded_backend_can_be_sent_to_another_process(models):
    detector = TokenDetector(str(models / "detector"), device="cpu")
    before = detector.check(ANSWER, CONTEXT)
    assert len(pickle.dumps(detector)) < 2_000
    assert pickle.loads(pickle.dumps(detector)).check(ANSWER, CONTEXT) == before
