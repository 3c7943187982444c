"""Exported from nbs/03e_chat.ipynb: edit it there, then run `nbdev-export`."""
import json, random, re, threading, time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit
import jsonschema, requests
from fastcore.basics import patch
from rrg_core.data.study import named, named_file
from rrg_core.data.weights import plain_folder
from rrg_core.engine.code import weights_hash
from rrg_core.engine.files import ENTRUSTED, may_write
from rrg_core.engine.settings import CourseError
from rrg_core.shown import progress
import tempfile
import pandas as pd
import pytest
from rrg_core.data.study import told
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.reports.sections import sentences
from rrg_core.reports.chat import *


def test_objects_are_found_in_any_wrapping():
    assert objects_in('{"a": {"b": [1]}} and {"c": 2}') == [{"a": {"b": [1]}}, {"c": 2}]
    assert objects_in('```json\n{"a": "x\ny"}\n```') == [{"a": "x\ny"}]
    assert objects_in('an example {not json} {"a": 1}') == [{"a": 1}]
    for none in ("", "I cannot help with that.", '{"a": 1', '{"a": NaN}', "[1, 2]", "{" * 50, '{"a":' * 5000):
        assert objects_in(none) == []
    assert objects_in('<think>{"a": 1}</think> {"a": 2}') == [{"a": 2}]


def test_a_reason_quotes_the_schema_alone():
    schema = {"type": "object", "additionalProperties": False, "required": ["side", "sure"],
              "properties": {"side": {"enum": ["left", None]}, "sure": {"type": "boolean"},
                             "list": {"items": {"type": "string", "maxLength": 3}}}}
    assert unfit({"side": "left", "sure": True}, schema) == "" == unfit({"anything": 1}, None)
    assert "sure breaks type" in unfit({"side": None, "sure": "yes"}, schema)
    assert 'the object breaks required: ["side", "sure"]' in unfit({}, schema)
    assert "list.1 breaks maxLength: 3" in unfit({"side": None, "sure": True, "list": ["abc", "canary"]}, schema)
    for wrong in ({"canary": 1}, {"side": "canary"}, {"side": ["canary"], "sure": "canary"},
                  {"side": {"canary": 1}, "sure": True}, {"side": None, "sure": True, "list": [{"canary": 1}]}):
        assert unfit(wrong, schema) and "canary" not in unfit(wrong, schema)


def test_answered_asks_again_and_gives_up():
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    question = [{"role": "user", "content": "How many?"}]
    def model(*texts):
        said, heard = iter(texts), []
        def backend(messages, schema):
            heard.append(messages)
            return next(said)
        backend.heard = heard
        return backend
    one = model("none", '{"n": "x"}', 'first {"n": 1}, then {"n": 2}')
    assert answered(one, question, schema) == {"n": 2} # the last one that fits: thoughts come first
    assert [len(m) for m in one.heard] == [2, 4, 4] # the question, then with the last answer and its reason
    assert one.heard[0][0]["role"] == "system" and '"integer"' in one.heard[0][0]["content"]
    assert "n breaks type" in one.heard[2][-1]["content"]
    too_many = lambda answer: "n is above 5" if answer["n"] > 5 else None
    assert answered(model('{"n": 9}', '{"n": 3}'), question, schema, too_many) == {"n": 3}
    nines = model(*['{"n": 9}'] * 3)
    with pytest.raises(Refused, match="n is above 5") as e: answered(nines, question, schema, too_many)
    assert e.value.reasons == ("n is above 5",) * 3
    with pytest.raises(Refused, match="no JSON object"): answered(model("", ""), question, schema, tries=2)
    assert answered(model('{"any": 1}'), question) == {"any": 1}
    with pytest.raises(ValueError, match="at least 1"): answered(model(), question, schema, tries=0)


def test_troubles_that_pass_are_waited_out():
    answer = lambda messages: '{"n": 1}'
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    question = [{"role": "user", "content": "How many?"}]
    faults = ("busy", "overloaded", "malformed", "dropped", "slow", "refusing", "wrong")
    waits = []
    with pytest.MonkeyPatch.context() as monkey, standin_server(answer, faults, pause=.6) as (url, seen):
        monkey.setattr(time, "sleep", lambda s, sleep=time.sleep: sleep(s) if s == .6 else waits.append(s))
        backend = endpoint(url, "m", timeout=.3, max_tokens=9)
        assert answered(backend, question, schema) == {"n": 1}
    assert len(seen) == len(faults) + 1 and all(r["max_tokens"] == 9 and r["temperature"] == 0 for r in seen)
    assert seen[0]["response_format"]["json_schema"]["schema"] == schema and seen[0]["model"] == "m"
    assert waits[0] == 0 and all(.5 * 2**k <= w <= 2**k for k, w in enumerate(waits[1:], 1)) and len(waits) == 5


def test_troubles_that_stay_stop_at_once():
    answer, question = lambda messages: '{"n": 1}', [{"role": "user", "content": "the canary sings"}]
    expected = {"html": (CourseError, "chat completion"), "other": (CourseError, "chat completion"),
                "missing": (CourseError, "no chat"), "redirect": (CourseError, "another address"),
                "quota": (CourseError, "used up"), "later": (CourseError, "9999 s"),
                "filtered": (Refused, "filtered"), "refusing": (Refused, "no JSON"),
                "wrong": (Refused, "required")}
    for fault, (kind, words) in expected.items():
        with standin_server(lambda m: "canary", (fault,) * 3) as (url, seen):
            backend = endpoint(url, "m", "the-key")
            with pytest.raises(kind, match=words) as e: answered(backend, question, {"required": ["n"]}, tries=3)
        assert len(seen) == (3 if fault in ("refusing", "wrong") else 1), fault
        assert not re.search("canary|the-key", told(e.value)) and len(str(e.value).splitlines()) == 1


def test_a_server_that_is_away_is_named():
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(time, "sleep", lambda s: None)
        with standin_server(lambda m: "x", ("overloaded",) * 9) as (url, seen):
            with pytest.raises(Unreachable, match="127.0.0.1 was asked 3 times: HTTP 503"):
                endpoint(url, "m", retries=2)([])
        with pytest.raises(Unreachable, match="2 times: ConnectionError"): endpoint(url, "m", retries=1)([])
    with standin_server(lambda m: "x", ("slow",), pause=.4) as (url, seen):
        backend = endpoint(url, "m", timeout=.1, retries=0)
        with pytest.raises(Unreachable, match="no answer within 0.1 s"): backend([])
    when = endpoint("http://localhost/v1", "m")
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < when._wait(0, soon) < 31 and when._wait(0, "Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert 4 <= when._wait(3, "soon") <= 8 and when._wait(99, None) <= 120


def test_a_key_is_sent_and_never_shown():
    with standin_server(lambda m: '{"n": 1}', key="the-key") as (url, seen):
        assert answered(endpoint(url, "m", "the-key"), [], {"required": ["n"]}) == {"n": 1}
        for wrong in (None, "canary"):
            with pytest.raises(CourseError, match="does not accept the key") as e: endpoint(url, "m", wrong)([])
            assert "canary" not in told(e.value)
    assert "the-key" not in repr(endpoint(url, "m", "the-key"))
    for bad in ("canary\n", "", "can ary", "canäry", 7):
        with pytest.raises(CourseError, match="one word") as e: endpoint("https://h/v1", "m", bad)
        assert "can" not in told(e.value).replace("can be", "")
    for bad in ("h/v1", "ftp://h", "https://user:canary@h/v1", None, "https://"):
        with pytest.raises(CourseError, match="address") as e: endpoint(bad, "m")
        assert "canary" not in told(e.value)


def test_a_server_without_schemas_is_asked_without():
    answer = lambda messages: '{"n": 1}'
    with standin_server(answer, takes_schema=False) as (url, seen):
        backend = endpoint(url, "m")
        for _ in range(2): assert answered(backend, [], {"required": ["n"]}) == {"n": 1}
    assert ["response_format" in body for body in seen] == [True, False, False] # asked once, and remembered
    with standin_server(answer, ("filtered",)) as (url, seen): # no reason to drop the schema
        backend = endpoint(url, "m")
        with pytest.raises(Refused): answered(backend, [], {"required": ["n"]})
        assert backend.takes_schema and answered(backend, [], {"required": ["n"]}) == {"n": 1}
    from rrg_core.reports.chat import _content
    parts = [{"type": "text", "text": '{"n"'}, {"type": "text", "text": ": 1}"}]
    assert _content({"choices": [{"message": {"content": parts}}]}) == '{"n": 1}'
    assert _content({"choices": [{"message": {"content": None}}]}) == "" and _content({"choices": []}) is None


def test_entrusted_text_needs_a_covered_endpoint():
    with standin_server(lambda m: '{"n": 1}') as (url, seen):
        plain, covered = endpoint(url, "m"), endpoint(url, "m", covered=True)
        ENTRUSTED.append("mimic-cxr") # marked after the endpoint was made
        try:
            for ask in (plain, lambda m: answered(plain, m), lambda m: asked_many(plain, [m])):
                with pytest.raises(CourseError, match="mimic-cxr.*covered=True") as e:
                    ask([{"role": "user", "content": "canary"}])
                assert "canary" not in told(e.value)
            assert seen == [] # nothing was sent
            assert answered(covered, []) == {"n": 1} == answered(lambda m, s: '{"n": 1}', [])
        finally: ENTRUSTED.remove("mimic-cxr")
        assert answered(plain, []) == {"n": 1}


def test_local_model_writes_what_the_model_says():
    import torch
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_chat_model(folder)
        backend, question = local_model(folder, max_new_tokens=8), [{"role": "user", "content": "Which side?"}]
        text = backend(question)
        ids = backend.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt",
                                                    return_dict=True)["input_ids"]
        own = []
        for _ in range(8): # greedy by hand
            with torch.no_grad(): n = backend.model(ids).logits[0, -1].argmax()
            if n == backend.tokenizer.eos_token_id: break
            own.append(int(n))
            ids = torch.cat([ids, n[None, None]], 1)
        assert text == backend.tokenizer.decode(own, skip_special_tokens=True) == backend(question) and own
        with pytest.raises(Refused, match="room for 504"): backend([{"role": "user", "content": "canary " * 600}])
        other = local_model(folder, max_new_tokens=9)
        assert backend.name != other.name and backend.name == local_model(folder, max_new_tokens=8).name
        no_system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        backend.tokenizer.chat_template = no_system + backend.tokenizer.chat_template
        rule = [{"role": "system", "content": "Be brief."}]
        merged = [{"role": "user", "content": "Be brief.\n\nWhich side?"}]
        assert torch.equal(backend._prompt(rule + question)["input_ids"], backend._prompt(merged)["input_ids"])
        with pytest.raises(CourseError, match="does not take these messages"): backend(rule)


def test_local_model_refuses_a_folder_that_is_not_whole():
    with tempfile.TemporaryDirectory() as folder:
        where = write_tiny_chat_model(folder)
        (where/"chat_template.jinja").unlink()
        with pytest.raises(CourseError, match="no chat template"): local_model(where)
        write_tiny_chat_model(folder)
        config = json.loads((where/"config.json").read_text())
        (where/"config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
        with pytest.raises(CourseError, match="lacks 9 tensors, the first is model.layers.2"): local_model(where)
        (where/"config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.y"}}))
        with pytest.raises(CourseError, match="auto_map"): local_model(where)
        (where/"config.json").write_text(json.dumps(config))
        (where/"model.safetensors").unlink()
        with pytest.raises(CourseError, match="no language model"): local_model(where)
    with pytest.raises(CourseError, match="config.json does not exist"): local_model(where)


def test_many_questions_keep_their_order_and_are_asked_once():
    lock, asked = threading.Lock(), Counter()
    def backend(messages, schema):
        n = int(messages[-1]["content"])
        with lock: asked[n] += 1
        time.sleep(.001 * (7 - n % 7))
        return json.dumps({"n": n})
    backend.name = "counting"
    ask = lambda numbers, **options: asked_many(backend, [[{"role": "user", "content": str(n)}] for n in numbers],
                                                **options)
    numbers = [*range(30), 3, 3, 29]
    out = ask(numbers, threads=7)
    assert [a["n"] for a in out.answers] == numbers and set(asked.values()) == {1}
    assert out.counts() == {"answered": 33, "loaded": 0, "refused": 0}
    odd = lambda answer, k: "even" if answer["n"] % 2 == 0 else ""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)/"deep"/"kept.jsonl"
        first = ask(range(6), check=odd, cache=cache, tries=1)
        assert first.counts() == {"answered": 3, "loaded": 0, "refused": 3, "refused: even": 3}
        assert [bool(a) for a in first.answers] == [False, True] * 3 and first.reasons[::2] == ["even"] * 3
        before = asked.copy()
        assert ask(range(6), cache=cache).counts() == {"answered": 6, "loaded": 3, "refused": 0}
        assert {n for n in range(6) if asked[n] > before[n]} == {0, 2, 4} # what was refused is asked again
        assert ask(range(6), check=odd, cache=cache, tries=1).loaded == 3 # a kept answer is checked again
        schema = {"properties": {"n": {"type": "integer"}}}
        assert ask(range(6), schema=schema, cache=cache).loaded == 0 # another schema, another question
        backend.name = "another model"
        assert ask(range(6), cache=cache).loaded == 0
    del backend.name
    with pytest.raises(ValueError, match="give it a `name`"): ask(range(2), cache="x.jsonl")
    assert ask([]).answers == [] and ask([]).counts()["answered"] == 0


def test_a_killed_run_goes_on_where_it_stopped():
    class Killed(BaseException): pass
    def backend(messages, schema):
        if len(done) == 4: raise Killed
        done.append(messages[-1]["content"])
        return '{"ok": true}'
    backend.name, done = "killed", []
    questions = [[{"role": "user", "content": str(n)}] for n in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)/"kept.jsonl"
        with pytest.raises(Killed): asked_many(backend, questions, cache=cache, threads=1)
        cache.write_bytes(cache.read_bytes()[:-9]) # the last line broke off
        done.clear()
        out = asked_many(lambda m, s: backend(m, s), questions[:3], threads=1)
        done.clear()
        assert asked_many(backend, questions[:7], cache=cache, threads=1).loaded == 3 and len(done) == 4
        done.clear()
        assert asked_many(backend, questions[:7], cache=cache).loaded == 7 # the torn line is apart from the next
    assert out.loaded == 0


def test_a_run_stops_where_no_answer_can_come():
    questions = [[{"role": "user", "content": str(n)}] for n in range(40)]
    def away(messages, schema):
        calls.append(1)
        raise Unreachable("host was asked 6 times: HTTP 503")
    calls = []
    with pytest.raises(Unreachable, match="503"): asked_many(away, questions, threads=2)
    assert 3 <= len(calls) < 40
    def at_times(messages, schema): # one question that the server cannot bear
        if messages[-1]["content"] == "7": raise Unreachable("host was asked 6 times: HTTP 500")
        return '{"n": 1}'
    out = asked_many(at_times, questions)
    assert out.counts()["answered"] == 39 and out.reasons[7].endswith("HTTP 500")
    with standin_server(lambda m: '{"n": 1}', key="right") as (url, seen):
        backend = endpoint(url, "m", "wrong")
        with pytest.raises(CourseError, match="does not accept"): asked_many(backend, questions)
        assert len(seen) < 40
    with pytest.raises(ValueError, match="threads"): asked_many(at_times, questions, threads=0)


def test_entrusted_answers_are_kept_outside_of_git():
    backend = lambda messages, schema: '{"n": 1}'
    backend.name = "local"
    ENTRUSTED.append("mimic-cxr")
    try:
        with pytest.raises(CourseError, match="git may track"):
            asked_many(backend, [[]], cache=Path(__file__).parent/"kept.jsonl")
        with tempfile.TemporaryDirectory() as folder:
            assert asked_many(backend, [[]], cache=Path(folder)/"kept.jsonl").counts()["answered"] == 1
    finally: ENTRUSTED.remove("mimic-cxr")
    assert not (Path(__file__).parent/"kept.jsonl").exists()
