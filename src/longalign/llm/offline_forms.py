"""In what words the offline stand-in asks, by language; English ones where a language or a form is missing.

A phrase of the document stands between “ and ”, whatever the language: so the question is read again.
"""

from __future__ import annotations

FORMS: dict[str, dict[str, str]] = {
    "en": {
        "topic": "What does the document say about “{a}”?",
        "summary": "Summarise what the document says about “{a}”.",
        "both": "What does the document say about “{a}”, and what about “{b}”?",
        "cloze": "Which word belongs in the gap of this sentence of the document: “{a}”",
        "facts": "Which entries does the register hold for {a} and for {b}?",
    },
    "zh": {
        "topic": "关于“{a}”，文档说了什么？",
        "summary": "请概括文档中关于“{a}”的内容。",
        "both": "关于“{a}”，文档说了什么？关于“{b}”呢？",
        "cloze": "文档的这句话中，空缺处应填什么词：“{a}”",
        "facts": "登记簿中 {a} 和 {b} 的条目分别是什么？",
    },
    "ja": {
        "topic": "文書は“{a}”について何を述べていますか。",
        "summary": "文書が“{a}”について述べていることを要約してください。",
        "both": "文書は“{a}”について何を述べていますか。また“{b}”についてはどうですか。",
        "cloze": "文書の次の文の空欄に入る語は何ですか：“{a}”",
    },
    "ko": {
        "topic": "문서는 “{a}”에 대해 무엇을 말하고 있습니까?",
        "summary": "문서에서 “{a}”에 대해 말하는 내용을 요약하십시오.",
        "both": "문서는 “{a}”에 대해 무엇을 말하고, “{b}”에 대해서는 무엇을 말합니까?",
        "cloze": "문서의 다음 문장에서 빈칸에 들어갈 단어는 무엇입니까: “{a}”",
    },
    "es": {
        "topic": "¿Qué dice el documento sobre “{a}”?",
        "summary": "Resuma lo que dice el documento sobre “{a}”.",
        "both": "¿Qué dice el documento sobre “{a}” y qué dice sobre “{b}”?",
        "cloze": "¿Qué palabra falta en el hueco de esta frase del documento: “{a}”?",
    },
    "fr": {
        "topic": "Que dit le document de “{a}” ?",
        "summary": "Résumez ce que le document dit de “{a}”.",
        "both": "Que dit le document de “{a}”, et que dit-il de “{b}” ?",
        "cloze": "Quel mot manque dans cette phrase du document : “{a}” ?",
    },
    "de": {
        "topic": "Was sagt das Dokument über “{a}”?",
        "summary": "Fassen Sie zusammen, was das Dokument über “{a}” sagt.",
        "both": "Was sagt das Dokument über “{a}”, und was über “{b}”?",
        "cloze": "Welches Wort gehört in die Lücke dieses Satzes aus dem Dokument: “{a}”?",
    },
    "ru": {
        "topic": "Что говорится в документе о “{a}”?",
        "summary": "Кратко изложите, что в документе говорится о “{a}”.",
        "both": "Что говорится в документе о “{a}”, а что — о “{b}”?",
        "cloze": "Какое слово пропущено в этом предложении из документа: “{a}”?",
    },
    "ar": {
        "topic": "ماذا تقول الوثيقة عن “{a}”؟",
        "summary": "لخّص ما تقوله الوثيقة عن “{a}”.",
        "both": "ماذا تقول الوثيقة عن “{a}”، وماذا تقول عن “{b}”؟",
        "cloze": "ما الكلمة الناقصة في هذه الجملة من الوثيقة: “{a}”؟",
    },
}
SUMMARISE = ("ummar", "概括", "要約", "요약", "Resuma", "Résumez", "Fassen Sie", "Кратко изложите", "لخّص")
"""Words of the forms that ask for a summary."""
