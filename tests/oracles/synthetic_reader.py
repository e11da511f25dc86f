"""Answers synthetic questions from the text alone, by patterns that are written down here a second time."""

from __future__ import annotations

import json
import re
from collections import Counter

FACT = re.compile(
    r"The special magic (?:number|identifier) for ([^.]+?) is ([\w-]+)\."
    r"|([^。，\n]+?)的特别神奇(?:数字|编号)是([\w-]+)。"
)
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]


def answer(prompt: str) -> str:
    """The right answer to a prompt of any kind, as far as its text holds one; else an empty text."""
    text, question = prompt.rsplit("\n\n", 1)
    for read in (_facts, _json, _variables, _homes, _landmark, _bell, _crates, _train, _words, _note):
        found = read(text, question)
        if found is not None:
            return found
    raise AssertionError(f"no kind of question: {question}")


def _facts(text: str, question: str) -> str | None:
    asked = re.search(r"special magic \w+ for (.+?) mentioned in|文中提到的(.+?)的(?:所有)?特别神奇", question)
    if not asked:
        return None
    keys = re.split(r", |、", asked[1] or asked[2])
    facts = [((a or c).strip(), b or d) for a, b, c, d in FACT.findall(text)]
    return ", ".join(value for key, value in facts if key in keys)


def _json(text: str, question: str) -> str | None:
    asked = re.search(r"JSON.*?([0-9a-f-]{36})", question)
    return json.loads(text).get(asked[1], "") if asked else None


def _variables(text: str, question: str) -> str | None:
    asked = re.search(r"(?:have the value |等于)(\d{5})", question)
    if not asked:
        return None
    value: dict[str, str] = {}
    pattern = r"[Tt]he variable (\w{4}) is (?:equal to )?(\w+)\.|变量([A-Z]{4})(?:是|等于)(\w+)。"
    for a, b, c, d in re.findall(pattern, text):
        name, source = a or c, b or d
        value[name] = source if source.isdigit() else value.get(source, "")
    return ", ".join(name for name, number in value.items() if number == asked[1])


def _homes(text: str, question: str) -> str | None:
    asked = re.search(r"does (the oldest friend of )?(.+?) live\?|^(.+?)(最老的朋友)?住在哪个城市", question)
    if not asked:
        return None
    who = asked[2] or asked[3]
    if asked[1] or asked[4]:
        friends = {
            a or c: b or d
            for a, b, c, d in re.findall(r"oldest friend of ([\w ]+?) is ([\w ]+?)\.|(\w+?)最老的朋友是(\w+?)。", text)
        }
        who = friends.get(who, "nobody")
    home = re.search(rf"{who} lives in ([\w ]+?)\.|{who}住在(\w+?)。", text)
    return (home[1] or home[2]) if home else ""


PLACES = {
    "Paris": "Eiffel", "London": "Buckingham", "Rome": "Colosseum", "Athens": "Parthenon", "Berlin": "Brandenburg",
    "Moscow": "Kremlin", "New York": "Empire", "San Francisco": "Golden Gate", "Sydney": "Bennelong",
    "Venice": "Rialto",
    "Barcelona": "Sagrada", "Istanbul": "Hagia", "Copenhagen": "Mermaid", "Vienna": "Schönbrunn", "Pisa": "Leaning",
    "Dubai": "Burj", "Toronto": "CN Tower", "Washington": "Lincoln", "Madrid": "Prado", "Amsterdam": "Rijks",
    "北京": "故宫", "西安": "大雁塔", "拉萨": "布达拉", "杭州": "雷峰塔", "巴黎": "埃菲尔", "伦敦": "白金汉", 
    "罗马": "斗兽场",
    "上海": "东方明珠", "武汉": "黄鹤楼", "南京": "中山陵", "成都": "武侯祠", "敦煌": "莫高窟", "苏州": "拙政园", 
    "纽约": "帝国",
    "柏林": "勃兰登堡", "香港": "维多利亚",
}  # fmt: skip


def _landmark(text: str, question: str) -> str | None:
    asked = re.search(r"Who lives in (.+?)\?|谁住在(.+?)？", question)
    if not asked:
        return None
    mark = PLACES[asked[1] or asked[2]]
    found = re.search(rf"(\w+ \w+) moved into a flat right beside [^.]*{mark}|(\w+?)搬进了紧挨着{mark}", text)
    return (found[1] or found[2]) if found else ""


def _bell(text: str, question: str) -> str | None:
    asked = re.search(r"bell of (.+?) rang\?|文中说(.+?)的钟响了几次", question)
    if not asked:
        return None
    where = asked[1] or asked[2]
    return str(text.count(f"the bell of {where} rang.") + text.count(f"点钟，{where}的钟响了。"))


def _crates(text: str, question: str) -> str | None:
    asked = re.search(r"ship from (.+?) take on board|来自(.+?)的船一共", question)
    if not asked:
        return None
    where = asked[1] or asked[2]
    return str(
        sum(
            int(a or b) for a, b in re.findall(rf"ship from {where} took (\d+) crates|来自{where}的船装了(\d+)箱", text)
        )
    )


def _train(text: str, question: str) -> str | None:
    if "train stop" not in question and "火车" not in question:
        return None
    return ", ".join(a or b for a, b in re.findall(r"train stopped at ([\w ]+?)\.|火车停在了(\w+?)。", text))


def _words(text: str, question: str) -> str | None:
    asked = re.search(r"Which (\d) words|最多的(\d)个词", question)
    if not asked:
        return None
    words = re.findall(r"^\d+\. (\S+)$", text, re.M)
    return ", ".join(word for word, _ in Counter(words).most_common(int(asked[1] or asked[2])))


def _note(text: str, question: str) -> str | None:
    asked = re.search(r"note (the \w+)\. .*the (\w+) time|记下(\w+?)。第(\d)次", question)
    if not asked:
        return None
    topic = asked[1] or asked[3]
    nth = ORDINALS.index(asked[2]) if asked[2] else int(asked[4]) - 1
    notes = [a or b for a, b in re.findall(rf"note {topic}: (.+?)\.|请记下{topic}：(.+?)。", text)]
    return notes[nth] if nth < len(notes) else ""
