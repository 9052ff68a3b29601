"""Groundedness and HallucinationScore, embedded: what an answer says and its context does not."""

import unicodedata

import pytest
import sentencex
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.evals import EvaluationError, Groundedness, HallucinationScore, MissingInput

PLAN = ["Plan B covers dental claims after 180 days."]
BOTH = [Groundedness, HallucinationScore]


@pytest.mark.parametrize("kind", BOTH)
def test_a_wrong_number_is_named(kind):
    response = "Plan B covers dental claims after 90 days."
    result = kind().evaluate(response=response, context=PLAN)
    assert result.score < 0.5
    assert not result.passed
    assert "90 days" in result.explanation
    assert "90 days" in [response[start:end] for start, end in result.unsupported]
    assert result.counts["unsupported"] == 1


@pytest.mark.parametrize("kind", BOTH)
def test_the_right_number_passes(kind):
    result = kind().evaluate(response="Plan B covers dental claims after 180 days.", context=PLAN)
    assert result.score > 0.8
    assert result.passed
    assert result.unsupported == ()


CONTEXT = (
    "Refunds are issued within 14 days of purchase. Shipping takes 5 days. The annual deductible is $1,000, and the "
    "copay is 20 percent. John Smith signed the contract in Lisbon on March 23, 2015. Members over 65 pay no fee."
)


@pytest.mark.parametrize(
    "claim",
    [
        "Refunds are issued within 14 days.",
        "Shipping takes five days.",
        "John Smith signed the contract on March 23, 2015.",
        "The copay is 20%.",
    ],
)
def test_what_the_context_says_passes(claim):
    assert Groundedness().evaluate(response=claim, context=CONTEXT).passed


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ("Refunds are issued within 5 days of purchase.", "5 days"),
        ("Shipping takes 14 days.", "14 days"),
        ("Shipping takes 5 weeks.", "5 weeks"),
        ("The annual deductible is $2,000.", "$2,000"),
        ("The copay is 65 percent.", "65 percent"),
        ("John Smith signed the contract on March 24, 2015.", "24"),
    ],
)
def test_a_number_that_is_not_the_one_for_this_is_named(claim, named):
    result = Groundedness().evaluate(response=claim, context=CONTEXT)
    assert result.score < 0.5, result
    assert named in [claim[start:end] for start, end in result.unsupported]


@pytest.mark.parametrize(
    ("claim", "context"),
    [
        ("Divock Origi signed for Liverpool for £10m.", "Divock Origi signed for Liverpool for £10million."),
        ("The sale brought in $2.5b last year.", "The sale brought in $2.5 billion last year."),
        ("The name changes in the 2018-19 school year.", "The name changes in the school year from 2018 to 2019."),
        ("She finished 9th of 51 runners.", "She finished ninth of 51 runners."),
    ],
)
def test_a_number_written_another_way_passes(claim, context):
    assert Groundedness().evaluate(response=claim, context=context).passed


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ("The 2018 report puts the fee at 30 dollars.", "2018"),
        ("The firm has had 2500 visits since then.", "2500 visits"),
        ("The firm was founded in 1898.", "1898"),
    ],
)
def test_a_year_is_told_from_a_count(claim, named):
    context = "The 2017 report puts the fee at 30 dollars. Founded in 1889, the firm has had 2600 visits since then."
    result = Groundedness().evaluate(response=claim, context=context)
    assert [claim[start:end] for start, end in result.unsupported] == [named], result


def test_each_claim_is_judged_by_itself():
    response = "Shipping takes 5 days. Refunds are issued within 90 days."
    result = Groundedness().evaluate(response=response, context=CONTEXT)
    assert result.counts == {"claims": 2, "supported": 1, "unsupported": 1}
    assert result.label == "partly_grounded"
    assert [response[start:end] for start, end in result.unsupported] == ["90 days"]


def test_several_documents_count_as_one_context():
    documents = ["Shipping takes 5 days.", "", "Refunds are issued within 14 days."]
    assert Groundedness().evaluate(response="Refunds are issued within 14 days.", context=documents).passed


class LangChainDocument:
    """As in langchain_core.documents."""

    def __init__(self, page_content):
        self.page_content = page_content
        self.metadata = {"page": 90}


@pytest.mark.parametrize(
    "context",
    [
        {"text": CONTEXT, "page": 90},
        [{"content": CONTEXT, "page": 90}],
        [{"page_content": CONTEXT, "metadata": {"page": 90}}],
        [LangChainDocument(CONTEXT)],
        (each for each in [CONTEXT]),
    ],
    ids=["one", "dictionaries", "dumped", "LangChain", "iterator"],
)
def test_documents_count_with_their_text_alone(context):
    result = Groundedness().evaluate(response="Refunds are issued within 90 days.", context=context)
    assert not result.passed
    assert result.explanation.endswith('"90 days" is not in the context')


@pytest.mark.parametrize("context", [[], "", ["  "], None])
def test_without_context_there_is_no_score(context):
    with pytest.raises(MissingInput):
        Groundedness().evaluate(response="Shipping takes 5 days.", context=context)


def test_an_answer_that_claims_nothing_is_supported():
    assert Groundedness().evaluate(response="…", context=CONTEXT).score == 1.0


@pytest.mark.parametrize("response", ["", " \n"])
def test_an_answer_without_text_has_no_score(response):
    with pytest.raises(MissingInput):
        Groundedness().evaluate(response=response, context=CONTEXT)


def test_a_checker_of_ones_own_takes_the_place_of_the_embedded_one():
    from traceai_vllm.evals.grounding.checker import ClaimVerdict

    class Doubter:
        def check(self, response, context, question=None):
            return [ClaimVerdict(0, len(response), 0.9)]

    result = Groundedness(checker=Doubter()).evaluate(response="Yes.", context="Yes.")
    assert result.score == pytest.approx(0.1)
    assert result.unsupported == ((0, 4),)


@given(st.text(), st.text(min_size=1))
def test_any_text_has_a_score_and_ranges_inside_the_answer(response, context):
    if not context.strip() or not response.strip():
        return
    result = Groundedness().evaluate(response=response, context=context)
    assert 0.0 <= result.score <= 1.0
    end = 0
    for span in result.unsupported:
        assert end <= span.start < span.end <= len(response)
        end = span.end


@given(st.text(alphabet="ab 12.%$-\n€½٣", max_size=200), st.text(alphabet="ab 12.%$-\n½٣", min_size=1, max_size=200))
def test_numbers_of_any_shape_are_read(response, context):
    if context.strip() and response.strip():
        Groundedness().evaluate(response=response, context=context)


def test_a_text_beyond_ascii_is_read_word_by_word_as_one_within():
    context = "Plan B's cap is $1,200.50 a year (not 12,34 or 1,2345.6); members don't pay for 3.5% of claims in 2024."
    response = "Plan B's cap is $1,250.50 a year. Members don't pay 3.5% of claims."
    plain = Groundedness().evaluate(response=response, context=context)
    other = Groundedness().evaluate(response=response, context=f"{context} \u2014")
    assert (other.score, other.explanation, other.unsupported) == (plain.score, plain.explanation, plain.unsupported)
    assert "$1,250.50" in plain.explanation


def test_the_same_input_gives_the_same_score():
    one = Groundedness().evaluate(response="Shipping takes 14 days, or 5.", context=CONTEXT)
    assert all(
        Groundedness().evaluate(response="Shipping takes 14 days, or 5.", context=CONTEXT) == one for _ in range(5)
    )


@pytest.mark.parametrize(
    ("right", "swapped"),
    [
        ("John Smith signed the contract in Lisbon.", "Mary Jones signed the contract in Lisbon."),
        ("John Smith signed the contract in Lisbon.", "John Smith signed the contract in Porto."),
        ("Mary Jones lives in Porto.", "John Smith lives in Porto."),
    ],
)
def test_a_name_swapped_for_another_of_the_context_scores_lower(right, swapped):
    context = CONTEXT + " Mary Jones lives in Porto."
    evaluator = Groundedness()
    one, two = (evaluator.evaluate(response=text, context=context).score for text in (right, swapped))
    assert two < one - 0.1


TERMS = "Claims must be filed within 12 months of the date of service. The deductible is $500 per person."


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ("You have 12 weeks from the date of service to file a claim.", "12 weeks"),
        ("Claims must be filed within 12 days of the date of service.", "12 days"),
        ("The deductible is 500 euros per person.", "500 euros"),
    ],
)
def test_another_unit_is_named(claim, named):
    result = Groundedness().evaluate(response=claim, context=TERMS)
    assert result.score < 0.5, result
    assert named in [claim[start:end] for start, end in result.unsupported]


@pytest.mark.parametrize(
    "claim",
    [
        "You have 12 months from the date of service to file a claim.",
        "Claims must be filed within one year of the date of service.",
        "The deductible is 500 dollars per person.",
    ],
)
def test_the_same_in_another_unit_passes(claim):
    assert Groundedness().evaluate(response=claim, context=TERMS).passed


CITED = [
    "The office opens at noon on weekdays. Members pay 20 dollars a month.",
    "A refund is paid within 30 days. Late requests are refused after 60 days.",
]


@pytest.mark.parametrize(
    "mark",
    [
        "[2]",
        "[1][2]",
        "[1, 2]",
        "[1-2]",
        "[^2]",
        "【2】",
        "【4†L1-L3】",
        "[citation:2]",
        "(Source: 2)",
        "<sup>2</sup>",
    ],
)
def test_a_citation_is_no_claim(mark):
    for claim in ("A refund is paid within 30 days", "Members pay 20 dollars a month"):
        plain = Groundedness().evaluate(response=f"{claim}.", context=CITED)
        for response in (
            f"{claim} {mark}.",
            f"{claim}{mark}.",
            f"{claim}. {mark}",
            f"{claim}. {mark}\n\nSources: {mark}",
        ):
            cited = Groundedness().evaluate(response=response, context=CITED)
            assert (cited.passed, cited.score) == (True, plain.score), response
    wrong = Groundedness().evaluate(response=f"Refunds {mark} are paid within 60 days {mark}.", context=CITED)
    assert not wrong.passed


@pytest.mark.parametrize(
    "form",
    [
        "### Answer\n\n{}",
        "## Key Takeaways\n- {}",
        "# What Members Should Know\n\n{}",
        "**Summary**\n\n- {}",
        "**Short answer:** yes.\n\n{}",
        "Answer:\n{}",
        "I apologize for the confusion. {}",
        "I'm sorry for any inconvenience caused. {}",
    ],
)
def test_a_heading_is_no_claim(form):
    claim = "A refund is paid within 30 days."
    plain = Groundedness().evaluate(response=claim, context=CITED)
    result = Groundedness().evaluate(response=form.format(claim), context=CITED)
    assert (result.counts["claims"], result.score) == (1, plain.score)


@pytest.mark.parametrize(
    "response", ["# Refunds take 90 days\n\nA refund is paid.", "# Dogs bark!\nA refund is paid.", "# Dogs bark"]
)
def test_a_heading_that_says_something_is_a_claim(response):
    result = Groundedness().evaluate(response=response, context=CITED)
    assert result.unsupported[0].start <= len("# Refunds ")


@pytest.mark.parametrize("form", ["{} (2).", "{} (1, 2).", "{} (2)", "{}.\u00b2", "{}.\u00b9\u2070"])
def test_a_number_at_the_end_of_a_sentence_is_a_citation(form):
    for claim in ("A refund is paid within 30 days", "Members pay 20 dollars a month"):
        plain = Groundedness().evaluate(response=f"{claim}.", context=CITED)
        cited = Groundedness().evaluate(response=form.format(claim), context=CITED)
        assert (cited.counts, cited.passed) == (plain.counts, True)


def test_a_number_in_brackets_is_a_claim():
    for wrong in ("A refund is paid within [300] days.", "Refunds within (9) days are paid."):
        assert not Groundedness().evaluate(response=wrong, context=CITED).passed


def test_a_letter_may_have_its_accent_apart():
    said = "Dr. Müller leads the clinic in Zürich. Frau Núñez leads it in Rome."
    context = "Dr. Müller leads the clinic in Zürich. Frau Castaño leads it in Rome."
    plain = Groundedness().evaluate(response=said, context=context)
    assert "Frau Núñez" in [said[start:end] for start, end in plain.unsupported]
    apart = unicodedata.normalize("NFD", said)
    for response, there in ((said, unicodedata.normalize("NFD", context)), (apart, context)):
        found = Groundedness().evaluate(response=response, context=there)
        assert found.score == plain.score
        named = [unicodedata.normalize("NFC", response[start:end]) for start, end in found.unsupported]
        assert named == [said[start:end] for start, end in plain.unsupported]


def test_what_is_not_seen_in_a_context_parts_no_word():
    claim = "The office pays the deductible."
    seen = Groundedness().evaluate(response=claim, context=claim)
    hidden = "The o\ufb03ce pays the deduc\u00adtible.\ufeff"
    assert Groundedness().evaluate(response=claim, context=hidden).score == seen.score


def test_a_name_that_the_context_lacks_is_named():
    result = Groundedness().evaluate(response="A letter says that Barack Obama lives in Lisbon.", context=CONTEXT)
    assert result.score < 0.5
    assert "Obama" in result.explanation


def test_one_answer_is_scored_by_itself_after_another_with_its_context():
    first = Groundedness().evaluate(response="Shipping takes 14 days.", context=CONTEXT)
    assert Groundedness().evaluate(response="Shipping takes 5 days.", context=CONTEXT).passed
    assert Groundedness().evaluate(response="Shipping takes 14 days.", context=CONTEXT) == first


@pytest.mark.parametrize(
    ("claim", "named"),
    [("Plan B does not cover dental claims after 180 days.", "not"), ("Plan B never covers dental claims.", "never")],
)
def test_a_denial_of_what_the_context_says_is_named(claim, named):
    result = Groundedness().evaluate(response=claim, context=PLAN)
    assert result.score < 0.5, result
    assert named in [claim[start:end] for start, end in result.unsupported]


@pytest.mark.parametrize(
    ("response", "context"),
    [("word " * 20_000, "other " * 20_000), ("1 " * 2_000, "2 " * 2_000)],
    ids=["words", "numbers"],
)
def test_what_would_take_too_long_is_refused(response, context):
    with pytest.raises(EvaluationError, match="too large"):
        Groundedness().evaluate(response=response, context=context)


@pytest.mark.parametrize("unit", ["`", "\u201ca ", "a\u00ab"])
def test_of_a_looping_answer_the_segmenter_gets_pieces(unit, monkeypatch):
    """Its time grows with the square of what it gets, and nothing can stop it; what it gets is all of the answer."""
    from traceai_vllm.evals.grounding.claims import sentences

    given, segment = [], sentencex.segment
    monkeypatch.setattr(sentencex, "segment", lambda language, text: given.append(text) or segment(language, text))
    text = (unit * 160_000)[:160_000]
    sentences(text)
    assert max(map(len, given)) <= 10_000
    assert "".join("".join(given).split()) == "".join(text.split())


def test_a_long_line_is_read_in_pieces_that_end_at_a_space():
    response = "Shipping takes 5 days. " * 1_000 + "Refunds are issued within 90 days."
    result = Groundedness().evaluate(response=response, context=CONTEXT)
    assert [response[start:end] for start, end in result.unsupported] == ["90 days"]


@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_the_marks_of_a_code_block_are_no_claim(fence):
    response = f'{fence}json\n{{"refund_days": 14}}\n{fence}'
    result = Groundedness().evaluate(response=response, context=CONTEXT)
    assert result.passed
    assert result.counts["claims"] == 1


def test_another_language_has_its_numbers_checked():
    context = "Der Plan B deckt Zahnbehandlungen nach 180 Tagen."
    assert (
        Groundedness().evaluate(response="Plan B deckt Zahnbehandlungen nach 180 Tagen.", context=context).score > 0.8
    )
    assert Groundedness().evaluate(response="Plan B deckt Zahnbehandlungen nach 90 Tagen.", context=context).score < 0.5


COLD = "The temperature in Oslo was -5 \u00b0C on Monday, and delivery takes 3-5 days. Covid-19 closed the office."


@pytest.mark.parametrize(
    "claim",
    [
        "The temperature in Oslo was \u22125 \u00b0C on Monday.",
        "The temperature in Oslo was minus 5 \u00b0C on Monday.",
        "Delivery takes 3 to 5 days.",
        "Delivery takes up to 5 days.",
        "Covid 19 closed the office.",
    ],
)
def test_a_sign_is_told_from_a_range_and_a_hyphen(claim):
    assert Groundedness().evaluate(response=claim, context=COLD).passed


@pytest.mark.parametrize(
    ("claim", "context"),
    [
        ("The temperature in Oslo was 5 \u00b0C on Monday.", COLD),
        ("The temperature in Oslo was -5 \u00b0C on Monday.", COLD.replace("-5 \u00b0C", "5 \u00b0C")),
    ],
)
def test_a_lost_sign_is_named(claim, context):
    result = Groundedness().evaluate(response=claim, context=context)
    assert result.score < 0.5
    assert "5 \u00b0" in result.explanation


@pytest.mark.parametrize(
    ("context", "right", "wrong"),
    [
        ("The policy starts on 03/04/2024.", ["March 4, 2024", "3 April 2024", "4.3.2024"], "March 5, 2024"),
        ("The policy starts on 12/05/1999.", ["December 5, 1999", "12 May 1999", "1999-05-12"], "12 June 1999"),
    ],
)
def test_a_date_that_can_be_read_in_two_ways_agrees_with_both(context, right, wrong):
    for date in right:
        assert Groundedness().evaluate(response=f"The policy starts on {date}.", context=context).passed
    assert Groundedness().evaluate(response=f"The policy starts on {wrong}.", context=context).score < 0.5


@pytest.mark.parametrize(
    ("context", "right", "wrong"),
    [
        ("会议将于2024年3月5日在北京举行\uff0c费用为1200元。", "会议在3月5日举行。", "会议在3月6日举行。"),
        ("会议将于2024年3月5日在北京举行\uff0c费用为1200元。", "费用为1,200元。", "费用为1300元。"),
        ("会议将于2024年3月5日在北京举行。", "会议将于2024年3月5日举行。", "会议将于2024年4月5日举行。"),
        ("该合同于三月五日签署\uff0c罚款为五千元。", "该合同于3月5日签署。", "该合同于三月六日签署。"),
        ("该合同于三月五日签署\uff0c罚款为五千元。", "罚款为5000元。", "罚款为六千元。"),
        ("会議は3月5日に東京で開かれます。", "会議は3月5日に開かれます。", "会議は5月3日に開かれます。"),
        ("売上は10万円、利益は3億円でした。", "売上は100,000円でした。", "利益は3万円でした。"),
        ("회의는 3월 5일 서울에서 열립니다.", "회의는 3월 5일 열립니다.", "회의는 3월 6일 열립니다."),
        (
            "Der Vertrag beginnt am 3. März 2024.",
            "Der Vertrag beginnt am 3.3.2024.",
            "Der Vertrag beginnt am 3.4.2024.",
        ),
    ],
)
def test_a_changed_day_or_amount_in_another_language_is_flagged(context, right, wrong):
    assert Groundedness().evaluate(response=right, context=context).passed
    assert Groundedness().evaluate(response=wrong, context=context).score < 0.5


RATES = (
    "Revenue rose by 12 percent in the third quarter, and costs fell by 3 percent. The fee went from 3 to 5 dollars in "
    "May. Members pay more than 20 dollars a month. Claims must be filed before the end of June. Applicants need at "
    "least 5 years of experience. The battle took place after the treaty was signed. Pilots with fewer than 200 hours "
    "do not fly at night."
)


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ("Revenue fell by 12 percent in the third quarter.", "fell"),
        ("Revenue decreased by 12 percent in the third quarter.", "decreased"),
        ("Costs rose by 3 percent.", "rose"),
        ("The fee went from 5 to 3 dollars in May.", "5 to 3 dollars"),
        ("Members pay less than 20 dollars a month.", "less"),
        ("Claims must be filed after the end of June.", "after"),
        ("Applicants need at most 5 years of experience.", "most"),
        ("The treaty was signed after the battle took place.", "after"),
        ("Pilots with more than 200 hours do not fly at night.", "more"),
    ],
)
def test_the_opposite_direction_is_named(claim, named):
    result = Groundedness().evaluate(response=claim, context=RATES)
    assert result.score < 0.5, result
    assert named in [claim[start:end] for start, end in result.unsupported]


@pytest.mark.parametrize(
    "claim",
    [
        "Revenue rose by 12 percent in the third quarter.",
        "Revenue increased by 12 percent in the third quarter.",
        "Costs fell by 3 percent.",
        "The fee went from 3 to 5 dollars in May.",
        "Members pay more than 20 dollars a month.",
        "The treaty was signed before the battle took place.",
        "Pilots with fewer than 200 hours do not fly at night.",
        "Pilots with more than 200 hours fly at night.",
    ],
)
def test_the_same_direction_passes(claim):
    assert Groundedness().evaluate(response=claim, context=RATES).passed


@pytest.mark.parametrize("title", ["Dr.", "Dr", "Mr.", "Prof.", "Frau"])
def test_a_name_changed_behind_its_title_is_named(title):
    context = f"On Friday the operation was done by {title} Müller in Bonn. She was pleased."
    for right in (f"The operation was done by {title} Müller in Bonn.", f"{title} Müller did the operation on Friday."):
        assert Groundedness().evaluate(response=right, context=context).passed
        wrong = right.replace("Müller", "Meier")
        result = Groundedness().evaluate(response=wrong, context=context)
        assert result.counts["claims"] == 1
        assert result.score < 0.5, result
        assert "Meier" in result.explanation


CLAIM = "Plan B covers dental claims after 180 days."


@pytest.mark.parametrize(
    "form",
    [
        "Hello! {}",
        "Hi there!\n\n{}\n\nBest regards,\nYour assistant",
        "Sure, here is the answer:\n\n{}",
        "Sure, I can help you with that! {}",
        "Thank you for your question. {}",
        "{} I hope this helps!",
        "{} Please let me know if you have any other questions.",
        "{} If you need more information, feel free to ask.",
        "{} Is there anything else I can help you with?",
        "As an AI language model, I can\u2019t give legal advice. {}",
        "{} Please consult a professional for advice.",
        "{} This is not legal advice.",
        "{} For more information, please refer to your plan documents.",
        "{} Please contact customer support for further assistance.",
        "{} Contact us if you have any questions.",
        "| Plan | Waiting period |\n|:---|---:|\n| {} |",
    ],
)
def test_courtesies_and_the_head_of_a_table_are_no_claims(form):
    right = Groundedness().evaluate(response=form.format(CLAIM), context=PLAN)
    assert right.passed
    assert right.counts["claims"] == 1
    wrong = form.format(CLAIM.replace("180", "90"))
    result = Groundedness().evaluate(response=wrong, context=PLAN)
    assert result.counts["unsupported"] == 1
    assert [wrong[start:end] for start, end in result.unsupported] == ["90 days"]


@pytest.mark.parametrize(
    "claim",
    [
        "Best practices include a check of the teeth.",
        "Sure, the plan covers glasses as well.",
        "Feel free to cancel the plan at any time.",
        "I hope this helps, since Plan B costs 90 dollars.",
        "Let me know if Plan B covers 90 days.",
        "As an AI, I say that the fee is low.",
        "For more information, visit https://acme.example/90.",
        "Please contact support for a refund of the fee.",
    ],
)
def test_what_says_something_in_such_words_is_a_claim(claim):
    assert Groundedness().evaluate(response=claim, context=PLAN).counts["claims"] == 1


@pytest.mark.parametrize(
    "abstention",
    [
        "I don't know. The provided context does not mention the price of Plan B.",
        "I'm sorry, but I couldn't find any information about the price in the provided documents.",
        "Unable to answer based on given passages.",
        "(Unable to answer based on given passages)",
        "There is no information about the warranty in the given context.",
        "Based on the provided information, I cannot determine the price.",
        "However, the fee of Plan C is not mentioned in the passages.",
        "The answer is not in the context.",
        "No information about the fee is available.",
        "Not specified.",
        "Das weiß ich nicht; der Kontext enthält keine Angaben zum Preis.",
        "Le contexte ne mentionne pas le prix.",
        "El texto no especifica el precio.",
        "文中没有提到价格。",
        "情報がありません。",
        "Size cevap veremem.",
        "Niestety nie wiem.",
        "मुझे नहीं पता।",
    ],
)
def test_to_say_that_the_context_does_not_say_is_no_claim(abstention):
    alone = Groundedness().evaluate(response=abstention, context=PLAN)
    assert (alone.score, alone.counts["claims"]) == (1.0, 0)
    plain = Groundedness().evaluate(response=CLAIM, context=PLAN)
    beside = Groundedness().evaluate(response=f"{CLAIM} {abstention}", context=PLAN)
    assert (beside.score, beside.counts["claims"]) == (plain.score, 1)


@pytest.mark.parametrize("turn", [", but ", "; however, ", ", so ", ", and ", ". "])
def test_what_follows_an_abstention_is_a_claim(turn):
    wrong = f"The documents don't specify the price{turn}the plan covers dental claims after 90 days."
    result = Groundedness().evaluate(response=wrong, context=PLAN)
    assert not result.passed
    assert [wrong[start:end] for start, end in result.unsupported] == ["90 days"]


@pytest.mark.parametrize(
    "claim",
    [
        "There is no waiting period for dental claims.",
        "There is no information desk at the office.",
        "The policy does not cover dental claims.",
        "Refunds are not provided in the first year.",
        "The information is kept for 90 days.",
        "Some claims may be refused, although this is not mentioned in the passages.",
        "Der Kontext enthält keine Angaben zum Preis, aber der Plan kostet 90 Euro.",
    ],
)
def test_what_denies_something_of_the_world_is_a_claim(claim):
    assert Groundedness().evaluate(response=claim, context=PLAN).counts["claims"] == 1


PROGRAM = """Pass the plan to the client:

```python
from acme import Client
client = Client(plan="b", retries=5)
```

"""


def test_a_program_beside_a_claim_is_no_claim():
    plain = Groundedness().evaluate(response=PROGRAM.split("```", maxsplit=1)[0] + CLAIM, context=PLAN)
    beside = Groundedness().evaluate(response=PROGRAM + CLAIM, context=PLAN)
    assert (beside.score, beside.counts) == (plain.score, plain.counts)


@pytest.mark.parametrize("fence", ["```json", "```", "~~~yaml"])
def test_data_in_a_block_of_its_own_is_a_claim(fence):
    response = f"{CLAIM}\n{fence}\nwaiting period: 90 days\n{fence[:3]}\n"
    assert not Groundedness().evaluate(response=response, context=PLAN).passed
