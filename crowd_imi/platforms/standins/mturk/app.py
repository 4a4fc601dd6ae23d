"""The Mechanical Turk stand-in as a server: the API at ``/``, workers at ``/mturk/…``, its books at ``/standin/…``."""

import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import Blueprint, Flask, Response, request
from sqlalchemy.orm import Session

from crowd_imi.platforms.standins import clocks, faults
from crowd_imi.platforms.standins.faults import Environ, Fault, FaultPlan
from crowd_imi.platforms.standins.mturk import desk, events, hits, payments, qualifications, site, wire
from crowd_imi.platforms.standins.mturk.state import Account, Standin
from crowd_imi.platforms.standins.people import HEADERS, stranger
from crowd_imi.store.clock import Clock

LARGEST_BODY = 1024 * 1024
JSON = "application/x-amz-json-1.1"

Operation = Callable[[Session, wire.Params, int], wire.Params]

OPERATIONS: dict[str, Operation] = {
    "ApproveAssignment": hits.approve_assignment,
    "AssociateQualificationWithWorker": qualifications.associate_qualification_with_worker,
    "CreateAdditionalAssignmentsForHIT": hits.create_additional_assignments_for_hit,
    "CreateHIT": hits.create_hit,
    "CreateHITType": hits.create_hit_type,
    "CreateHITWithHITType": hits.create_hit_with_hit_type,
    "CreateQualificationType": qualifications.create_qualification_type,
    "DeleteHIT": hits.delete_hit,
    "DeleteQualificationType": qualifications.delete_qualification_type,
    "DisassociateQualificationFromWorker": qualifications.disassociate_qualification_from_worker,
    "GetAccountBalance": payments.get_account_balance,
    "GetAssignment": hits.get_assignment,
    "GetHIT": hits.get_hit,
    "GetQualificationScore": qualifications.get_qualification_score,
    "GetQualificationType": qualifications.get_qualification_type,
    "ListAssignmentsForHIT": hits.list_assignments_for_hit,
    "ListBonusPayments": payments.list_bonus_payments,
    "ListHITs": hits.list_hits,
    "ListHITsForQualificationType": hits.list_hits_for_qualification_type,
    "ListQualificationTypes": qualifications.list_qualification_types,
    "ListReviewableHITs": hits.list_reviewable_hits,
    "ListWorkersWithQualificationType": qualifications.list_workers_with_qualification_type,
    "RejectAssignment": hits.reject_assignment,
    "SendBonus": payments.send_bonus,
    "SendTestEventNotification": events.send_test_event_notification,
    "UpdateExpirationForHIT": hits.update_expiration_for_hit,
    "UpdateHITReviewStatus": hits.update_hit_review_status,
    "UpdateNotificationSettings": events.update_notification_settings,
    "UpdateQualificationType": qualifications.update_qualification_type,
}
READS = ("Get", "List")
"""How operations begin that write nothing."""


class StandinApp(faults.FaultyRequests):
    """The stand-in as a WSGI app; ``close`` ends its thread and gives back the books."""

    def __init__(self, app: Flask, schedule: faults.Faults, standin: Standin) -> None:
        super().__init__(app, schedule, _name, _refusal)
        self._standin = standin

    def close(self) -> None:
        """Send no more notifications, and give back all connections."""
        self._standin.close()


def create_app(folder: Path, account: Account | None = None, clock: Clock | None = None) -> StandinApp:
    """The stand-in as a WSGI app.

    Args:
        folder: where its books are; made when missing.
        account: whose requests are answered; without it, anybody's.
        clock: whose time it goes by.
    """
    schedule = faults.Faults()
    standin = Standin(folder, account or Account(), schedule, clock)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.before_request(partial(_only_from_here, standin))
    app.after_request(_add_headers)
    for blueprint in (
        _requester(standin),
        desk.routes(standin),
        site.routes(standin),
        faults.routes(schedule),
        clocks.routes(standin.clock),
    ):
        app.register_blueprint(blueprint)
    return StandinApp(app, schedule, standin)


def _only_from_here(standin: Standin) -> Response | None:
    try:
        standin.now()
    except ValueError:
        return _reply(wire.WireError("ValidationException", f"{clocks.CLOCK_HEADER} must be milliseconds since 1970").body(), 400)
    # The task's page, which hands in, is at another address: Mechanical Turk takes its form from everywhere.
    return None if request.path == site.SUBMIT else stranger()


def _add_headers(reply: Response) -> Response:
    reply.headers.update({**HEADERS, "Content-Security-Policy": site.POLICY})
    return reply


def _name(environ: Environ) -> str | None:
    """The operation that a request asks for: what a schedule of faults calls it."""
    target = environ.get("HTTP_X_AMZ_TARGET")
    return str(target).rpartition(".")[2] if target else None


def _refusal(fault: Fault, plan: FaultPlan) -> Response:
    if fault is Fault.THROTTLE:
        return _reply(wire.WireError("ThrottlingException", "Rate exceeded").body(), 400)
    fault_body = wire.WireError("ServiceFault", "Amazon Mechanical Turk is temporarily unable to process your request.").body()
    return _reply(fault_body, 500)


def _requester(standin: Standin) -> Blueprint:
    blueprint = Blueprint("requester", __name__)

    def answer() -> Response:
        try:
            return _reply(_perform(standin))
        except wire.WireError as error:
            return _reply(error.body(), error.status)

    blueprint.add_url_rule("/", "answer", answer, methods=["POST"])
    return blueprint


def _perform(standin: Standin) -> wire.Params:
    wire.require_signature(request, standin.account.access_key, standin.account.secret_key)
    model = wire.operation_of(request.headers.get("X-Amz-Target", ""))
    params = wire.parameters(model, request.get_data())
    operation = OPERATIONS.get(model.name)
    if operation is None:
        raise wire.turk_error("NotSupported", f"This stand-in doesn't do {model.name}.")
    with standin.read() if model.name.startswith(READS) else standin.write() as session:
        return operation(session, params, standin.now())


def _reply(body: wire.Params, status: int = 200) -> Response:
    reply = Response(json.dumps(body), status, content_type=JSON)
    reply.headers["x-amzn-RequestId"] = secrets.token_hex(16)
    return reply
