"""What a command prints goes where it belongs."""

import pytest

from crowd_imi.cli import output
from crowd_imi.cli.output import Output
from crowd_imi.records import Money


def test_a_person_reads_remarks_on_stdout_and_no_json(capsys):
    printed = Output(as_json=False)
    printed.say("6 tasks [arms] :smile:")
    printed.result(Money(amount=1, currency="USD"))
    assert capsys.readouterr() == ("6 tasks [arms] :smile:\n", "")


def test_a_script_reads_one_document_on_stdout_and_remarks_elsewhere(capsys):
    printed = Output(as_json=True)
    printed.say("6 tasks")
    printed.result(Money(amount=1, currency="USD"))
    assert capsys.readouterr() == ('{\n  "amount": 1,\n  "currency": "USD"\n}\n', "6 tasks\n")


def test_a_quick_step_shows_no_progress(capsys):
    assert list(Output(as_json=False).track([1, 2, 3], "counting")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_long_step_tells_a_log_file_its_rate_and_the_time_left(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 2.5, 3.0, 4.0, 5.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    assert list(Output(as_json=True).track(range(4), "counting")) == [0, 1, 2, 3]
    # After 2.5 s 2 of 4 are done: 0.8 a second, so the other 2 take 2.5 s.
    assert capsys.readouterr() == ("", "counting: 2 of 4, 0.8/s, 2 s left\ncounting: 4 done in 5 s\n")


@pytest.mark.parametrize("total", [None, 5])
def test_things_of_unknown_number_are_counted(total):
    assert list(Output(as_json=False).track(iter("ab"), "counting", total)) == ["a", "b"]
