"""scratch attacks"""

import pytest

from crowd_imi.harvester.money import reject
from tests.platforms.test_studies_away import *


def show(b):
    for e in b.entries:
        print(e.operation, e.subject[:14], e.amount, e.state, e.outcome, e.there, e.differs)


def test_forget(away):
    away.take_part("anna")
    away.run()
    away.pay_list(away.listed(f"{away.books().entries[-1].subject},0.10,Thanks"))
    show(away.books())
    from crowd_imi.store.tables import Person

    with away.store.people() as people:
        for person in people.scalars(select(Person)).all():
            people.delete(person)
    b = away.books()
    show(b)
    print("DIFF", b.differences)
    from crowd_imi.harvester.strays import stray_name

    name = stray_name(study_key(away.study.key), away.queries["anna"]["SESSION_ID"])
    print(pay_stray(away.study, away.store, away.platform, name), away.books().spent)


def test_overturned(away):
    v = away.take_part("anna")
    reject(away.study, away.store, away.platform, v.id, REASON)
    away.run()
    print(away.visit(v).payment)
    away.rig.standin("POST", "set-status", {"submission": away.queries["anna"]["SESSION_ID"], "status": "APPROVED"})
    away.run()
    show(away.books())
    print(away.visit(v).payment, away.books().spent)


@pytest.mark.parametrize("amount", [10**30, 2**31, 2**63])
def test_huge(away, amount):
    v = away.take_part("anna")
    try:
        print(pay(away.study, away.store, away.platform, Compensation(v.id, Money(amount=amount, currency="USD"), "x", "y")))
    except Exception as e:
        print(type(e), str(e)[:200])


@pytest.mark.parametrize(
    "line",
    ["-1.00", "1.005", "1e3", "٣.٥٠", "１.５０", "1.00 ", "+1.00", "1,00", "9999999.99", "99999999.99", "nan", "$1.00", "0.01"],
)
def test_lines(away, line):
    v = away.take_part("anna")
    try:
        p = plan_payout(away.study, away.store, away.platform, away.listed(f"{v.id};{line};T", header="visit;amount;reason"))
        print(line, p.money)
    except Exception as e:
        print(line, type(e).__name__, str(e)[:200])


@pytest.mark.parametrize("how", ["crlf", "bom", "cr", "nfd", "multi", "dir", "utf16", "nul"])
def test_files(away, how):
    v = away.take_part("anna")
    path = away.study.folder / "l.csv"
    t = f'visit,amount,reason\n{v.id},1.00,"Café\nmerci"\n'
    path.write_bytes(t.encode())
    away.pay_list(path)
    import unicodedata

    try:
        if how == "crlf":
            path.write_bytes(t.replace("\n", "\r\n").encode())
        if how == "bom":
            path.write_bytes(b"\xef\xbb\xbf" + t.encode())
        if how == "cr":
            path.write_bytes(t.replace("\n", "\r").encode())
        if how == "nfd":
            path.write_bytes(unicodedata.normalize("NFD", t).encode())
        if how == "multi":
            path.write_bytes(t.replace("\n", "\n\n").encode())
        if how == "utf16":
            path.write_bytes(t.encode("utf-16"))
        if how == "nul":
            path.write_bytes(t.replace("Caf", "Ca\0f").encode())
        if how == "dir":
            path = away.study.folder
        p = away.pay_list(path)
        print(how, len(p.bonuses), p.paid_before)
    except Exception as e:
        print(how, type(e).__name__, str(e)[:200])
