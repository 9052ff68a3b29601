"""How models decline, or say that they do not know, in languages other than English.

As in English: who says it of a case (`if I cannot help`) or of somebody else does not decline.
"""

from __future__ import annotations

# ruff: noqa: RUF001 -- letters of other scripts

_GERMAN_SOURCE = r"(?:Kontext|Text|Dokument\w{0,3}|Quelle\w?|Informationen)"
_FRENCH_SOURCE = r"(?:contexte|texte|document)"
_CHINESE_SOURCE = r"(?:文中|上下文|文档|资料|文章|文本|段落|提供的信息)"
_CHINESE_ACTS = r"(?:为您|向您|给您|直接|对此)?(?:提供|回答|帮助|协助)"

IN_OTHER_LANGUAGES = (
    # German
    r"\b(?:ich\s+kann|kann\s+ich)\s+(?:\w+\s+){0,4}?(?:nicht|keine?)\b[^.!?\n]{0,60}(?:helfen|beantworten|geben|unterstützen)",
    r"\bich\s+wei(?:ß|ss)\s+(?:es|das|darauf|die\s+Antwort)\s+(?:leider\s+)?nicht\b|\bdas\s+wei(?:ß|ss)\s+ich\s+(?:leider\s+)?nicht\b",
    r"\b(?:liegen\s+mir|habe\s+ich|ich\s+habe)\s+(?:\w+\s+){0,3}?keine\s+(?:\w+\s+)?(?:Informationen|Angaben|Daten)\b",
    rf"\b{_GERMAN_SOURCE}\s+(?:enth(?:ält|alten)|nenn(?:t|en)|erwähn(?:t|en))\s+[^.,!?\n]{{0,30}}?(?:keine?|nicht)\b",
    rf"\b{_GERMAN_SOURCE}\s+(?:wird|werden|ist|sind)\s+[^.,!?\n]{{0,40}}?\b(?:nicht|keine?)\b[^.,!?\n]{{0,20}}"
    r"(?:erwähnt|genannt|angegeben|enthalten)",
    # French
    r"(?<!\bsi\s)\bje\s+ne\s+(?:peux|suis)\s+pas\b[^.!?\n]{0,40}(?:aider|répondre|fournir|mesure)",
    r"(?<!\bsi\s)\bje\s+ne\s+(?:le\s+)?sais\s+pas\b",
    r"\bje\s+n['\u2019]ai\s+(?:pas|aucune)\s+(?:d['\u2019]\s*|de\s+|cette\s+)?(?:information|donnée|réponse)",
    rf"\b{_FRENCH_SOURCE}\s+(?:\w+\s+)?ne\s+(?:mentionne|précise|contient|fournit|indique)\s+pas\b",
    # Spanish
    r"(?<!\bsi\s)\bno\s+puedo\s+(?:\w+\s+){0,2}?(?:ayudar|responder|proporcionar)",
    r"(?<!\bsi\s)\bno\s+(?:lo\s+sé|sé\s+la\s+respuesta|tengo\s+(?:\w+\s+){0,2}?información)\b",
    r"\bel\s+(?:contexto|texto|documento)\s+(?:\w+\s+)?no\s+(?:menciona|especifica|indica|contiene|proporciona)\b",
    # Italian
    r"(?<!\bse\s)\bnon\s+posso\s+(?:\w+\s+){0,2}?(?:aiutar|rispondere|fornire)",
    r"(?<!\bse\s)\bnon\s+(?:lo\s+so|so\s+la\s+risposta|ho\s+(?:\w+\s+){0,2}?informazioni)\b",
    r"\bil\s+(?:contesto|testo|documento)\s+(?:\w+\s+)?non\s+(?:menziona|specifica|indica|contiene|fornisce)\b",
    # Portuguese
    r"(?<!\bse\s)\bnão\s+posso\s+(?:\w+\s+){0,2}?(?:ajudar|responder|fornecer)",
    r"(?<!\bse\s)\bnão\s+(?:sei(?:\s*[.!,;\n]|\s*\Z|\s+a\s+resposta)|tenho\s+(?:\w+\s+){0,2}?informaç(?:ão|ões))",
    r"\bo\s+(?:contexto|texto|documento)\s+(?:\w+\s+)?não\s+(?:menciona|especifica|indica|contém|fornece)\b",
    # Dutch
    r"\b(?:ik\s+kan|kan\s+ik)\s+(?:\w+\s+){0,4}?niet\b[^.!?\n]{0,40}(?:helpen|beantwoorden)",
    r"\bik\s+weet\s+(?:het|dat|dit|het\s+antwoord)\s+(?:helaas\s+)?niet\b|\bik\s+heb\s+(?:\w+\s+){0,3}?geen\s+informatie\b",
    r"\bde\s+(?:context|tekst)\s+(?:vermeldt|noemt|bevat)\s+[^.,!?\n]{0,30}?(?:niet|geen)\b",
    # Chinese
    rf"(?<!如果)(?<!若)(?<!假如)(?<!当)我们?(?:目前|暂时|也|实在|可能)?(?:无法|不能){_CHINESE_ACTS}",
    rf"(?:抱歉|对不起|不好意思|遗憾)[^。！？\n如若当]{{0,12}}(?:无法|不能){_CHINESE_ACTS}",
    rf"\A\s*(?:无法|不能){_CHINESE_ACTS}(?![^。！？\n]{{0,20}}(?:时|的人|的客户|的情况|的原因))",
    r"(?<!如果)(?<!若)我(?:并|也|还)?不(?:知道|清楚)",
    rf"{_CHINESE_SOURCE}[^。！？\n]{{0,10}}(?:没有|未)(?:明确)?(?:提到|提及|说明|提供|包含|给出)",
    r"根据[^。！？\n]{0,20}(?:无法|不能)(?:确定|判断|得知|回答)",
    # Japanese
    r"(?:お答え|お手伝い|回答|提供).{0,10}(?:できません|出来ません)(?!でしたら)",
    r"(?:\A|[。、\n])\s*(?:私には|それは)?(?:わかりません|分かりません|わかりかねます)",
    r"(?:情報|記載|記述)[はが]\S{0,8}?(?:ありません|含まれていません|見つかりません)",
    # Korean
    r"(?:도와\s*드릴|답변\S{0,3}\s*드릴|답변할|제공\S{0,3}\s*드릴|제공할)\s*수\s*없(?:습니다|어요|네요|음)",
    r"(?:\A|[.,\n]|저는|저도|잘)\s*모르겠(?:습니다|어요|네요)",
    r"(?:정보|내용)(?:가|이|는|은|도)?\s*(?:없습니다|없어요|포함되어\s*있지\s*않|언급되(?:어\s*있)?지\s*않)",
    # Russian
    r"(?<!\bесли\s)(?<!\bесли\sя\s)\bне\s+могу\s+(?:\w+\s+){0,2}?(?:помочь|ответить|предоставить)",
    r"(?<!\bесли\s)\bя\s+не\s+знаю\b|\bу\s+меня\s+нет\s+(?:\w+\s+){0,2}?(?:информации|данных|сведений)\b",
    r"\bв\s+(?:\w+\s+)?(?:контексте|тексте|документах?)\s+не\s+(?:упоминается|упоминаются|указан|говорится|содержится)",
    # Arabic
    r"لا\s+(?:يمكنني|أستطيع)\s+(?:\w+\s+){0,2}?(?:المساعدة|مساعدتك|الإجابة|تقديم)",
    r"\bلا\s+أعرف\b|ليس\s+لدي\s+(?:\w+\s+){0,2}?(?:معلومات|معرفة)|(?:السياق|النص)\s+لا\s+(?:يذكر|يحتوي|يحدد)",
    # Hindi
    r"(?:मैं|हम)(?!\S)[^।.!?\n]{0,60}(?:मदद|सहायता|उत्तर|जवाब)[^।.!?\n]{0,25}(?:नहीं\s+(?:कर|दे)\s+(?:सकत|पाऊ|पाए)|असमर्थ)",
    r"मुझे\s+(?:इसका\s+|यह\s+)?(?:उत्तर\s+|जवाब\s+)?नहीं\s+पता|मुझे\s+(?:इसकी\s+)?जानकारी\s+नहीं",
    r"(?:संदर्भ|दस्तावेज़|पाठ)\s+में\s+[^।.!?\n]{0,40}(?:उल्लेख|जानकारी)\s+नहीं",
    # Turkish
    r"\b(?:yardımcı\s+olam(?:am|ıyorum|ayacağım)|yardım\s+edem(?:em|iyorum|eyeceğim)|"
    r"cevap(?:layam(?:am|ıyorum)|\s+verem(?:em|iyorum)))\b",
    r"\bbilmiyorum\b|\b(?:bağlamda|metinde|belgede)\s+[^.!?\n]{0,40}(?:belirtilm(?:emiş|iyor)|yer\s+almıyor|geçmiyor)",
    # Polish
    r"(?<!\bjeśli\s)\bnie\s+mogę\s+(?:\w+\s+){0,3}?(?:pomóc|odpowiedzieć|udzielić)",
    r"(?:\A|[.!?,]\s+)(?:niestety,?\s+)?nie\s+wiem\b|\bnie\s+mam\s+(?:\w+\s+){0,2}?informacji\b",
    r"\b(?:kontekst|tekst|dokument)\s+nie\s+(?:wspomina|zawiera|podaje|określa)\b",
)
