"""Bonuses from a list: a CSV file with a line for each, checked as a whole before any of them is paid.

A line is known by what it says: the same file given again pays nothing twice, and goes on where it was interrupted. A second
bonus that is meant to be equal says so, by another reason or by a name of its own.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlalchemy.orm import Session

from crowd_imi.errors import HarvestError, PlatformError, Unreachable
from crowd_imi.harvester.money import never_handed_in, require_bonuses
from crowd_imi.ledger import Bonus, IntentState, lease, pay_bonuses
from crowd_imi.ledger.books import SPENDING
from crowd_imi.lifecycle import PAYABLE
from crowd_imi.platforms.base import Capability, Platform, price
from crowd_imi.progress import Track, silent
from crowd_imi.promises import promised
from crowd_imi.records import Money
from crowd_imi.store import Store
from crowd_imi.store.money import amount_of, find_intent
from crowd_imi.store.postings import postings
from crowd_imi.store.submissions import count_payable, submission_ids
from crowd_imi.store.tables import Visit
from crowd_imi.study import Study

COLUMNS = ("amount", "reason")
WHO = ("visit", "submission")
"""Columns of which a list has one: the visit as exports name it, or the platform's id of the submission."""
NAME = "name"
MOST_PROBLEMS = 20
_AMOUNT = re.compile(r"([0-9]{1,7})\.([0-9]{2})")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Line:
    """One bonus as the list has it."""

    number: int
    who: str
    money: Money
    reason: str
    name: str

    def bonus(self, visit: str, submission: str) -> Bonus:
        """The bonus, under a name that follows from what the line says."""
        said = "\0".join((visit, str(self.money.amount), self.money.currency, self.reason, self.name))
        return Bonus(visit, submission, f"list-{sha256(said.encode()).hexdigest()[:16]}", self.money, self.reason)


@dataclass(frozen=True, slots=True)
class Payout:
    """A list that can be paid as it is."""

    bonuses: tuple[Bonus, ...]
    """What isn't paid yet, in the order of the list."""
    paid_before: int
    """Lines of the list that are."""
    money: Money
    """What the participants get."""
    fees: Money


def read_list(path: Path, currency: str) -> tuple[Line, ...]:
    """Read a list of bonuses.

    Args:
        path: a CSV file in UTF-8 whose first line names the columns: ``visit`` or ``submission``, ``amount``, ``reason`` and,
            where wanted, ``name``; commas, semicolons or tabs between them.
        currency: of the study; amounts are whole units with two decimals.

    Raises:
        HarvestError: it isn't such a list; one line of the message for each problem.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise HarvestError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise HarvestError(f"{path}: this isn't UTF-8; save it as “CSV UTF-8” in the spreadsheet") from None
    delimiter = max(_DELIMITERS, key=text.lstrip().partition("\n")[0].count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [_plain(cell) for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise HarvestError(f"{path}: this isn't a table of comma-separated values ({error})") from None
    if len(rows) < 2:
        raise HarvestError(f"{path}: there is no bonus in it; its first line names the columns, then comes a line for each")
    (_, header), *body = rows
    who = _who(path, header)
    problems: list[str] = []
    lines = [line for number, row in body if (line := _line(path, number, header, who, row, currency, problems)) is not None]
    _raise(path, problems)
    return tuple(lines)


def plan_payout(study: Study, store: Store, platform: Platform, path: Path) -> Payout:
    """Read a list and find out what it costs, and every reason why it couldn't be paid.

    Raises:
        HarvestError: the list or a line of it can't be paid, or all of it is more than the cap allows; nothing was sent.
        PlatformError: the platform can't be read.
    """
    require_bonuses(platform)
    lines = read_list(path, study.file.pay.currency)
    with store.people() as people:
        ours = submission_ids(people, platform.name)
    visits = {submission: visit for visit, submission in ours.items()}
    handed_in = _handed_in(store, platform)
    problems: list[str] = []
    bonuses: list[Bonus] = []
    seen: dict[str, int] = {}
    with store.read() as session:
        for line in lines:
            visit = visits.get(line.who, line.who)
            submission = ours.get(visit)
            if submission is None or session.get(Visit, visit) is None:
                problems.append(f"{path}:{line.number}: {_nobody(session, visit)}")
            elif handed_in is not None and submission not in handed_in:
                problems.append(f"{path}:{line.number}: {never_handed_in(platform, visit)}")
            else:
                bonus = line.bonus(visit, submission)
                if bonus.subject in seen:
                    problems.append(
                        f"{path}:{line.number}: says the same as line {seen[bonus.subject]}; if both are meant, give one another "
                        f"reason, or tell them apart in a column {NAME!r}"
                    )
                seen.setdefault(bonus.subject, line.number)
                bonuses.append(bonus)
        _raise(path, problems)
        known = {bonus.subject: find_intent(session, "bonus", bonus.subject) for bonus in bonuses}
        wanted = [b for b in bonuses if (intent := known[b.subject]) is None or intent.state != IntentState.DONE]
        new = [b for b in wanted if (intent := known[b.subject]) is None or intent.state != IntentState.OPEN]
        spent = amount_of(session, SPENDING, (IntentState.OPEN, IntentState.DONE))
        reserved = _reserved(study, session, platform)
    money = sum(bonus.money.amount for bonus in wanted)
    total = sum(price(platform, bonus.money).amount for bonus in wanted)
    unsent = sum(price(platform, bonus.money).amount for bonus in new)
    over = spent + reserved + unsent - study.file.pay.cap
    currency = study.file.pay.currency
    if new and over > 0:
        raise HarvestError(
            f"{path}: {counted(len(new))} cost {Money(amount=unsent, currency=currency)} with fees, which would go "
            f"{Money(amount=over, currency=currency)} over the cap of {study.file.pay.cap_money}, beside what is spent and owed; "
            "raise pay.cap, or pay less"
        )
    return Payout(
        bonuses=tuple(wanted),
        paid_before=len(bonuses) - len(wanted),
        money=Money(amount=money, currency=currency),
        fees=Money(amount=total - money, currency=currency),
    )


def pay_out(study: Study, store: Store, platform: Platform, payout: Payout, track: Track = silent) -> None:
    """Pay a list; given again after an interruption it goes on.

    Raises:
        LedgerError: somebody else spends, the cap forbids it by now, or it can't be told yet whether an earlier try arrived.
        PlatformError: the platform said no to some, or gave no answer.
    """
    with lease(store, "pay", study.file.pay.cap_money) as held:
        with store.read() as session:
            reserved = _reserved(study, session, platform)
            posted = {bonus.visit: session.get_one(Visit, bonus.visit).posting_id for bonus in payout.bonuses}
        refusals: list[str] = []
        for posting in dict.fromkeys(posted.values()):
            try:
                pay_bonuses(held, platform, [b for b in payout.bonuses if posted[b.visit] == posting], reserved, track)
            except Unreachable:
                raise
            except PlatformError as refusal:  # keeps nobody of another posting waiting
                refusals.append(str(refusal))
    if refusals:
        raise PlatformError("\n".join(refusals))


def _who(path: Path, header: Sequence[str]) -> str:
    here = [column for column in WHO if column in header]
    missing = [repr(column) for column in COLUMNS if column not in header]
    if len(here) != 1 or missing or len(set(header)) < len(header) or set(header) - {*WHO, *COLUMNS, NAME}:
        raise HarvestError(
            f"{path}: its first line must name the columns visit (or submission), amount, reason and, where wanted, name; "
            f"it names {', '.join(header)}"
        )
    return here[0]


def _line(  # noqa: PLR0913, PLR0917 (where it stands, and what it is read by)
    path: Path, number: int, header: Sequence[str], who: str, row: Sequence[str], currency: str, problems: list[str]
) -> Line | None:
    where = f"{path}:{number}"
    if len(row) != len(header):
        problems.append(f"{where}: has {len(row)} cells, and the first line names {len(header)} columns; quote texts with commas")
        return None
    cells = dict(zip(header, row, strict=True))
    amount = _AMOUNT.fullmatch(cells["amount"])
    minor = 0 if amount is None else int(amount[1]) * 100 + int(amount[2])
    if minor == 0:
        problems.append(f"{where}: {cells['amount']!r} is no amount above 0 with two decimals, as in 1.50 for 1.50 {currency}")
    for column in (who, "reason"):
        if not cells[column]:
            problems.append(f"{where}: {column} is empty")
    return Line(number, cells[who], Money(amount=minor, currency=currency), cells["reason"], cells.get(NAME, ""))


def counted(bonuses: int) -> str:
    """A number of bonuses in words."""
    return "1 bonus" if bonuses == 1 else f"{bonuses} bonuses"


def _plain(cell: str) -> str:
    """A cell as it is known by: a file that a spreadsheet saves anew has other line breaks, and may write é in another way."""
    return unicodedata.normalize("NFC", " ".join(cell.split()))


def _nobody(session: Session, visit: str) -> str:
    if session.get(Visit, visit) is not None:
        return f"visit {visit}: its platform ids were deleted, so nothing can be paid any more"
    return f"there is no visit or submission {visit} here; `crowd-imi export --format csv` lists the visits"


def _handed_in(store: Store, platform: Platform) -> frozenset[str] | None:
    """Submissions that may get a bonus; None where everybody may."""
    if Capability.BONUS_UNFINISHED in platform.capabilities:
        return None
    with store.read() as session:
        posted = [posting.platform_id for posting in postings(session) if posting.platform_id is not None]
    return frozenset(found.id for posting in posted for found in platform.submissions(posting))


def _reserved(study: Study, session: Session, platform: Platform) -> int:
    """What the cap must hold for everybody who may have to be paid a reward, or was promised a bonus in study.toml."""
    rewards = count_payable(session, PAYABLE, unpaid_only=True) * price(platform, study.file.pay.reward_money).amount
    return rewards + promised(session, study, platform).beside


def _raise(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = [f"{path}: and {len(problems) - MOST_PROBLEMS} more like these"] if len(problems) > MOST_PROBLEMS else []
        raise HarvestError("\n".join([*problems[:MOST_PROBLEMS], *more, "nothing was paid"]))
