"""What the paired checks say of two answers to one request."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai_vllm.evals import MissingInput, run_evaluator
from traceai_vllm.evals.paired import CHECKS, Answer, PairedCheck, PairedSettings, run_paired_checks

DISCLAIMER = "This is not legal advice."
SETTINGS = PairedSettings(required_wording={"claims": [DISCLAIMER], "*": ["Yours, Acme"]})


def result(name, baseline, candidate, settings=SETTINGS, route="claims"):
    found = {r.name: r for r in run_paired_checks(baseline, candidate, settings, route=route)}
    return found.get(name)


@pytest.mark.parametrize(
    ("baseline", "candidate", "label"),
    [
        ("After 90 days.", "I'm sorry, but I can't help with that.", "appeared"),
        ("After 90 days.", "I\u2019m sorry, I cannot provide this information.", "appeared"),
        ("After 90 days.", "As an AI language model, I do not have access to plans.", "appeared"),
        ("After 90 days.", "The waiting period is not mentioned in the context.", "appeared"),
        ("Nach 90 Tagen.", "Das kann ich leider nicht sagen; ich kann Ihnen dabei nicht helfen.", "appeared"),
        ("90天后。", "抱歉。我无法提供这些信息。", "appeared"),
        ("I can't help with that.", "Mix the two and wait.", "vanished"),
        ("I can't help with that.", "I am unable to assist with this request.", "both"),
        ("After 90 days.", "After 180 days; you can't claim before that.", "neither"),
        ("After 90 days.", {"content": "I cannot tell, I look it up.", "tool_calls": [{"name": "look"}]}, "neither"),
        ("No rule.", "No, I don't know of any rule.", "neither"),
        ("After 90 days.", "This goes " + "on and " * 60 + "then I can't help.", "neither"),
    ],
)
def test_refusals(baseline, candidate, label):
    found = result("RefusalAgreement", baseline, candidate)
    assert found.label == label, found.explanation
    assert found.passed is (label in {"both", "neither"})
    if label == "appeared":
        assert candidate[slice(*found.unsupported[0])] in found.explanation


@pytest.mark.parametrize(
    "candidate",
    [
        "I\u2019m sorry, but that\u2019s not something I can do.",
        "Sorry, we can't help with that.",
        "Cannot comply.",
        "  Unable to answer based on the context.",
        "Not enough information.",
        "There is no information",
        "N/A",
        "I won't be able to help with that.",
        "I'm just an AI and can't do that.",
        "I'd rather not answer that.",
        "I do not feel comfortable answering.",
        "It is not possible for me to help with this.",
        "The context does not mention the waiting period.",
        "The provided passage doesn't contain this.",
        "There is no information about this in the documents.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "죄송하지만 도와드릴 수 없습니다.",
        "Извините, я не могу помочь с этим.",  # noqa: RUF001
        "عذرًا، لا يمكنني المساعدة في ذلك.",
        "There is no mention of a waiting period in the context.",
        "The answer is not found in the provided documents.",
        "Based on the provided context, it is not possible to determine the waiting period.",
        "Das weiß ich leider nicht.",
        "Dazu liegen mir keine Informationen vor.",
        "Je ne sais pas.",
        "Le contexte ne mentionne pas ce délai.",
        "Lo siento, no lo sé.",
        "El contexto no menciona el plazo.",
        "Non ho informazioni al riguardo.",
        "Não sei.",
        "Ik weet het niet.",
        "我不知道。",
        "上下文中未提及等待期。",
        "申し訳ありませんが、お答えできません。",
        "わかりません。",
        "도와드릴 수 없습니다.",
        "잘 모르겠습니다.",
        "Я не знаю.",
        "ليس لدي معلومات حول ذلك.",
        "माफ़ कीजिए, मैं इसमें आपकी मदद नहीं कर सकता।",
        "मुझे नहीं पता।",
        "संदर्भ में इस अवधि का उल्लेख नहीं है।",
        "Üzgünüm, bu konuda yardımcı olamam.",  # noqa: RUF001
        "Maalesef bilmiyorum.",
        "Przykro mi, nie mogę w tym pomóc.",
        "Nie wiem.",
        "Kontekst nie zawiera tego okresu.",
    ],
)
def test_ways_to_decline(candidate):
    found = result("RefusalAgreement", "After 90 days.", candidate)
    assert found.label == "appeared"
    assert candidate[slice(*found.unsupported[0])] in found.explanation


@pytest.mark.parametrize(
    "candidate",
    [
        "I can't help but notice that the plan covers it.",
        "I can't recommend this dish enough!",
        "I cannot tell you how happy we are to have you.",
        "Sure! Say: 'I can't access my account.'",
        "I don't know about you, but the plan covers it.",
        "If I can't find the form, I go to the desk.",
        "Unfortunately, the plan does not cover it.",
        "No information is lost.",
        "Members cannot claim before 90 days; we cannot refund them.",
        "I couldn't find any errors in the code. It works as written.",
        "I can't wait to share our new shop with you!",
        "Dear Ann, unfortunately I cannot attend the meeting on Friday.",
        "I don't have access to the building on weekends.",
        "The document does not mention weekends, so the period is 90 days.",
        "Print 'Sorry, I cannot open that file' and exit.",
        "如果您无法提供发票\uff0c请联系客服。",
        "商家不能提供发票时\uff0c您可以投诉。",
        "文中提到了90天。",
        "영수증을 제공할 수 없는 경우 고객센터로 문의하세요.",
        "領収書を提供できませんでしたら、ご連絡ください。",
        "Si no puedo ayudarle, le paso con un compañero.",
        "Si je ne peux pas vous aider, appelez le support.",
        "Если я не могу помочь, звоните.",
        "In den Informationen steht, dass Sie nicht kündigen müssen.",
        "There is no mention of fees, so it is free.",
        "मैं आपकी मदद करूँगा।",
        "यह योजना चश्मे में मदद नहीं करती।",
        "Size yardımcı olabilirim.",  # noqa: RUF001
        "Nie mogę się doczekać!",
        "Jeśli nie mogę pomóc, zadzwoń.",
    ],
)
def test_such_words_do_not_decline(candidate):
    assert result("RefusalAgreement", "After 90 days.", candidate).label == "neither"


def test_a_refusal_in_the_models_own_words():
    own = PairedSettings(refusal_phrases=["let us talk about something else"])
    assert result("RefusalAgreement", "90 days.", "Let us talk about something else!", own).label == "appeared"


def test_required_wording_is_the_routes():
    kept = result("RequiredWording", f"Yes. {DISCLAIMER}", "Yes.\n\n*This is* **not** legal\nadvice!")
    assert (kept.score, kept.label) == (1.0, "kept")
    lost = result("RequiredWording", f"Yes. {DISCLAIMER} Yours, Acme", "Yes. This is legal advice. Yours, Acme")
    assert (lost.score, lost.label, lost.passed) == (0.5, "lost", False)
    assert DISCLAIMER in lost.explanation
    assert result("RequiredWording", f"Yes. {DISCLAIMER}", "Yes.", route="other") is None
    # One letter, or a letter and its accent.
    own = PairedSettings(required_wording={"*": ["No es asesoría"]})
    assert result("RequiredWording", "No es asesoría.", "No es asesori\u0301a.", own).passed
    assert not result("RequiredWording", "No es asesori\u0301a.", "Es asesoría.", own).passed
    assert result("RequiredWording", "Yes.", "No.") is None  # what the baseline lacks was not lost


@pytest.mark.parametrize(
    ("baseline", "candidate", "label", "named"),
    [
        ("Claim AB-1293 is open.", "Claim AB-1239 is open.", "altered", '"AB-1293" became "AB-1239"'),
        ("You owe $1,299.00.", "You owe $1,229.00.", "altered", '"1,299.00" became "1,229.00"'),
        ("You owe $1,299.00.", "You owe 1299 dollars.", "kept", ""),
        ("Wait 90 days.", "Wait ninety days.", "kept", ""),
        ("Wait 15 days.", "Wait fifteen days.", "kept", ""),
        ("Wait 21 days.", "Wait twenty-one days.", "kept", ""),
        ("Wait 21 days.", "Wait twenty days.", "lost", '"21" is lost'),
        ("Wait 100 days.", "Wait a hundred days.", "kept", ""),
        ("It has 5,000 seats.", "It has five thousand seats.", "kept", ""),
        ("It is -5 degrees.", "It is 5 degrees.", "altered", '"-5" became "5"'),
        ("You owe 5 dollars.", "You owe -$5.", "altered", '"5" became "-$5"'),
        ("It is \u22125 degrees.", "It is minus 5 degrees.", "kept", ""),
        ("Wait 10 -20 days.", "Wait 10 to 20 days.", "kept", ""),
        ("Take 20mg twice.", "Take 20 mg twice.", "kept", ""),
        ("It costs $1.5 million.", "It costs $1,500,000.", "kept", ""),
        ("It costs $1.5 million.", "It costs $1.5 billion.", "altered", '"1.5 million" became "1.5 billion"'),
        ("It costs 5k.", "It costs 5,000.", "kept", ""),
        ("It costs $1.5 million.", "It costs $1.5M.", "kept", ""),
        ("It costs $1.5 trillion.", "It costs $1,500,000,000,000.", "kept", ""),
        ("There is a 30-day waiting period.", "The waiting period is 30 days.", "kept", ""),
        ("Claim AB-1293 is open.", "Claim AB\u20111293 is open.", "kept", ""),
        ("It was written by Okonkwo in Lagos.", "Okonkwo wrote it in Lagos.", "kept", ""),
        (
            "Die Haftpflichtversicherung zahlt den Schaden nach der Wartezeit von 90 Tagen.",
            "Nach 90 Tagen zahlt die Haftpflicht, was beschädigt wurde.",
            "kept",
            "",
        ),
        ("Walk 10-20 km.", "Walk 10 to 20 km.", "kept", ""),
        ("Walk 10 to 20 km.", "Walk 10-20 km.", "kept", ""),
        ("Walk 10-20 km.", "Walk 10 to 25 km.", "lost", '"10-20" is lost'),
        ("Take 20mg twice.", "Take it twice.", "lost", '"20mg" is lost'),
        ("Write to help@acme.com.", "Write to helpme@acme.org.", "altered", "help@acme.com"),
        ("See https://acme.com/a?b=1 there.", "See the page.", "lost", "https://acme.com/a?b=1"),
        ("Ask for Dr Okonkwo there.", "Ask for Dr Okonkwa there.", "altered", '"Okonkwo" became "Okonkwa"'),
        ("Ask for Dr Smith there.", "Ask for someone there.", None, ""),
        ("1. Wait\n2. Ask 5 people", "Wait, then ask 5 people, or 6", "kept", ""),
        ("The fee is 1.250,50 Euro.", "The fee is 1,250.50 euros.", "kept", ""),
        ("It has 12\u202f000 seats.", "It has 12,000 seats.", "kept", ""),
        ("It starts on 2024-03-03.", "It starts on March 3rd, 2024.", "kept", ""),
        ("It starts on March 3, 2024.", "It starts on 3.3.2024.", "kept", ""),
        ("It starts on March 3, 2024.", "It starts, in 2024, on March 3.", "kept", ""),
        ("It starts on March 3. It is 2024.", "It starts on 2024-03-03.", "kept", ""),
        ("It starts on 03/04/2024.", "It starts on 3 April 2024.", "kept", ""),
        ("It starts on 2024-03-03.", "It starts on April 3, 2024.", "altered", '"2024-03-03" became "April 3, 2024"'),
        ("费用为1200元。", "费用为1,200元。", "kept", ""),
        ("费用为1200元。", "费用为1300元。", "altered", '"1200" became "1300"'),
        ("Version 1.2.3 is out.", "Version 1.2.4 is out.", "altered", '"1.2.3" became "1.2.4"'),
        ("See http://acme.com/.", "See (http://acme.com)!", "kept", ""),
        ("See http://acme.com/a/", "See http://acme.com/b/", "altered", "http://acme.com/a/"),
        ("Wait.", "Wait 90 days.", None, ""),
        ("Come at 2:30 PM.", "Come at 2:30pm.", "kept", ""),
        ("Come at 2:30\u202fp.m.", "Come at 14:30.", "kept", ""),
        ("Open 9:00-17:00.", "Open from 9 AM to 5 PM.", "kept", ""),
        ("Open from 9 to 11 a.m.", "Open 9am-11am.", "kept", ""),
        ("Come at 2:30 PM.", "Come at 2:30 AM.", "altered", '"2:30 PM" became "2:30 AM"'),
        ("Come at 14:30.", "Come at 2:30.", "kept", ""),
        ("Come at 0:15.", "Come at 12:15.", "kept", ""),
        ("Come at 14:30.", "Come at 02:30.", "altered", '"14:30" became "02:30"'),
        ("It is ISO 27001.", "It is ISO-27001.", "kept", ""),
        ("Call 555-123-4567.", "Call (555) 123-4567.", "kept", ""),
        ("Call 555 123 4567.", "Call 555-123-4567.", "kept", ""),
        ("Claim AB-1293 is open.", "Claim AB 1293 is open.", "kept", ""),
        ("Claim AB-1293 is open.", "Claim AB-1293-7 is open.", "altered", '"AB-1293" became "AB-1293-7"'),
        ("Wait 3-5 days.", "Wait 3.5 days.", "lost", '"3-5" is lost'),
        ("It has 1.5M users.", "It has 1.5 million users.", "kept", ""),
        ("See **https://acme.com/a**.", "See `https://acme.com/a`.", "kept", ""),
        ("请访问https://acme.com/a\u3002谢谢", "请访问 https://acme.com/a", "kept", ""),
        ("Use version 1.2.3.", "Use v1.2.3.", "kept", ""),
        ("It exhales CO2.", "It exhales CO\u2082.", "kept", ""),
        ("编号\uff21\uff22-\uff11\uff12\uff19\uff13。", "编号AB-1293。", "kept", ""),
        ("Your 401(k) is matched.", "Your 401k is matched.", "kept", ""),
        ("Your 401(k) is matched.", "Your 403(b) is matched.", "lost", '"401(k)" is lost'),
        ("In 2019-21 it fell.", "In 2019-2021 it fell.", "kept", ""),
        ("In 2019\u20132021 it fell.", "From 2019 to 2021 it fell.", "kept", ""),
        ("In 2019-21 it fell.", "From 2019 to 2021 it fell.", "kept", ""),
        ("The season of 2019/20 began.", "The season of 2019/2020 began.", "kept", ""),
        ("In 2019-21 it fell.", "In 2019-2022 it fell.", "altered", '"2019-21" became "2019-2022"'),
        ("In 2024-05 it fell.", "In 2024-06 it fell.", "altered", '"2024-05" became "2024-06"'),
        ("Pay to DE89 3704 0044 0532 0130 00.", "Pay to DE89370400440532013000.", "kept", ""),
        ("Pay to DE89370400440532013000.", "Pay to DE89 3704 0044 0532 0130 00.", "kept", ""),
        ("Pay by 4111 1111 1111 1111.", "Pay by 4111-1111-1111-1111.", "kept", ""),
        ("Pay by 4111111111111111.", "Pay by 4111 1111 1111 1111.", "kept", ""),
        ("Pay by 4111 1111 1111 1111.", "Pay by 4111 1111 1111 1112.", "altered", "1111 1112"),
        ("It costs \u20b91,25,000.50.", "It costs \u20b9125,000.50.", "kept", ""),
        ("It costs \u20b912,50,000.", "It costs \u20b912,05,000.", "altered", '"12,50,000" became "12,05,000"'),
        ("Rows 1, 25, 100.", "Rows 1, 25 and 100.", "kept", ""),
        ("Ask José of Nuñoa, jose@ñandú.cl.", "Ask José of Nuñoa, jose@n\u0303andu\u0301.cl.", "kept", ""),
    ],
)
def test_identifiers_amounts_and_rare_names(baseline, candidate, label, named):
    found = result("IdentifierAgreement", baseline, candidate)
    assert (found and found.label) == label, found and found.explanation
    assert found is None or named in found.explanation


@pytest.mark.parametrize(
    "text",
    [
        "計画 Okonkwo は三月五日に始まる。",
        "会议由 Okonkwo 主持\uff0c费用为1200元。",
        "회의는 Okonkwo 씨가 열어요. 참가비는 5000원.",
    ],
)
def test_a_language_whose_word_list_needs_more_is_checked_for_the_rest(text):
    assert result("IdentifierAgreement", text + " AB-1293", text + " AB-1293").passed
    assert not result("IdentifierAgreement", text + " AB-1293", text + " AB-1239").passed


def test_what_changed_is_shown_in_both_answers():
    baseline, candidate = "Claim AB-1293 pays in 30 days.", "In 30 days, claim AB-1239 pays."
    found = result("IdentifierAgreement", baseline, candidate)
    assert found.score == 0.5
    assert [candidate[start:end] for start, end in found.unsupported] == ["AB-1239"]
    assert [baseline[start:end] for start, end in found.details["baseline_ranges"]] == ["AB-1293"]


@pytest.mark.parametrize(
    ("baseline", "candidate", "label"),
    [
        ("The refund is on its way to your bank.", "Die Rückerstattung ist unterwegs zu Ihrer Bank.", "switched"),
        ("The refund is on its way to your bank.", "退款正在汇往您的银行账户。请稍候。", "switched"),
        ("The refund is on its way to your bank.", "The refund 退款 is on its way to your bank.", "script_mixed"),
        ("The refund is on its way to your bank.", "Your bank will have the refund soon enough.", "same"),
        ("The refund is on its way: 退款 is its name.", "The refund is on its way, which is 退款.", "same"),
        ("退款已于5月3日寄出。请您耐心等待。", "您的退款已经寄出。请再等三天。谢谢您。", "same"),
        ("退款已于5月3日寄出。请您耐心等待。", "返金は5月3日に送金されました。お待ちください。", "switched"),
        ("Yes", "Ja", "unknown"),
    ],
)
def test_languages(baseline, candidate, label):
    found = result("LanguageAgreement", baseline, candidate)
    assert found.label == label, found.explanation
    assert found.passed is (label in {"same", "unknown"})


LIST = "Do this:\n- one\n- two"
CODE = "Run:\n```sh\n# not a heading\nls\n```"


@pytest.mark.parametrize(
    ("baseline", "candidate", "label"),
    [
        ('{"a": 1}', '{"a": 2}', "kept"),
        ('{"a": 1}', '```json\n{"a": 1}\n```', "json_fenced"),  # who reads JSON cannot read that
        ('```json\n{"a": 1}\n```', '```\n{"a": 2}\n```', "kept"),
        ('```json\n{"a": 1}\n```', '{"a": 1}', "kept"),
        ('{"a": 1}', '{"a": 1', "json_broken"),
        ('{"a": 1}', "a is 1", "json_broken"),
        ('{"a": 1}', "[1]", "json_broken"),
        ('{"a": 1, "b": 2}', '{"a": 1}', "json_keys_lost"),
        (LIST, "Do one and two.", "lost"),
        (LIST, "1. one\n2. two", "kept"),
        (CODE, "Run:\n```sh\nls", "fence_unclosed"),
        (CODE, "Run ls.", "lost"),
        (CODE, CODE + "\n" + CODE, "kept"),
        ("# Plan\ntext", "Plan\ntext", "lost"),
        ("|a|b|\n|---|---|\n|1|2|", "a is 1, b is 2", "lost"),
        ("|a|b|\n|---|---|\n|1|2|", "a | b\n:-- | -:\n1 | 2", "kept"),
        ("Plain words.", "- a\n- b", None),
    ],
)
def test_formats(baseline, candidate, label):
    found = result("FormatAgreement", baseline, candidate)
    assert (found and found.label) == label, found and found.explanation


@pytest.mark.parametrize(
    ("ending", "label"),
    [
        ("Please contact us again. " * 8, "looping"),
        ("Please contact us again. " * 8 + "Please con", "looping"),
        ("!" * 300, "looping"),
        ("\n" * 400, "looping"),
        ("0" * 60, "looping"),
        ("}\n}\n}\n}\n}", "none"),
        ("-" * 60, "none"),
        ("It is very, very, very nice.", "none"),
        ("\n".join(f"{number}. The plan covers it." for number in range(1, 31)), "repetitive"),
        ("\n".join(f"{day}. Run {day + 4} km, then rest {day + 9} minutes." for day in range(1, 15)), "none"),
        (
            "one, two and three. " + "We do what we can and more. Fine by me. " * 10 + "And so it ends well.",
            "repetitive",
        ),
    ],
)
def test_looping(ending, label):
    baseline = "Thank you for writing. We have your claim and will answer it in three days."
    found = result("NoLooping", baseline, baseline + " " + ending)
    assert found.label == label, found.explanation
    assert found.passed is (label == "none")
    if label == "looping":
        assert result("NoLooping", baseline + ending, baseline + ending).label == "both"


def test_tool_calls_without_text_are_left_to_other_evaluators():
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    assert run_paired_checks(call, call) == []
    assert {r.name for r in run_paired_checks(Answer("Yes, after 90 days."), call)} <= {"RefusalAgreement"}


def test_what_is_no_answer_is_refused():
    with pytest.raises(MissingInput, match="int"):
        run_paired_checks("yes", 7)
    with pytest.raises(ValueError, match="list of texts"):
        PairedSettings(required_wording={"claims": "one text"})


def test_a_check_is_an_evaluator():
    check = PairedCheck("RequiredWording", SETTINGS)
    found = run_evaluator(check, {"response": "Yes.", "baseline": DISCLAIMER, "route": "claims", "tools": None})
    assert (found.name, found.label, found.passed) == ("RequiredWording", "lost", False)
    with pytest.raises(MissingInput, match="nothing to compare"):
        check.evaluate(response="Yes.", baseline="Yes.")
    with pytest.raises(ValueError, match="there are RefusalAgreement"):
        PairedCheck("Tone")


PIECES = st.sampled_from(
    ["AB-1293", " 1,299.00", "```", "\n", "- a", "|---|", "{", '"a":', "退款", "I can't help", "!" * 30, "Okonkwo "]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=40).map("".join))


@settings(deadline=None)  # the first example loads the word lists
@given(TEXTS)
def test_identical_answers_always_pass(text):
    for found in run_paired_checks(text, text, SETTINGS, route="claims"):
        assert found.passed, found


@settings(deadline=None)  # the first example loads the word lists
@given(TEXTS, TEXTS)
def test_any_two_texts_have_results_in_order_and_in_range(baseline, candidate):
    results = run_paired_checks(baseline, candidate, SETTINGS, route="claims")
    assert results == run_paired_checks(baseline, candidate, SETTINGS, route="claims")
    names = [r.name for r in results]
    assert names == [name for name in CHECKS if name in names]
    for found in results:
        assert found.explanation
        before, after = (unicodedata.normalize("NFC", text) for text in (baseline, candidate))
        assert all(0 <= start < end <= len(after) for start, end in found.unsupported)
        assert all(0 <= start < end <= len(before) for start, end in found.details.get("baseline_ranges", ()))


HUGE = 1_000_000
HOSTILE = [
    "a" * HUGE,
    "1" * HUGE,
    "1," * (HUGE // 2),
    "a1-" * (HUGE // 3),
    "[" * HUGE,
    "```\n" * (HUGE // 4),
    "I can " * (HUGE // 6),
    "as an AI " * (HUGE // 9),
    "a@" * (HUGE // 2),
    "a.b@" * (HUGE // 4),
    " |-" * (HUGE // 3),
    "\n" * HUGE,
    "Ab " * (HUGE // 3),
    "退" * HUGE,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: re.sub(r"\s", "_", text[:8]))
def test_hostile_and_huge_texts_are_bounded(text):
    assert run_paired_checks("Yes, AB-1293.", text, SETTINGS, route="claims")
    assert all(found.passed for found in run_paired_checks(text, text, SETTINGS, route="claims"))
