"""The requester's URLs: ``/api/v1/…``."""

from flask import Blueprint, Response, request
from sqlalchemy import select

from crowd_imi.platforms.standins.prolific import groups, hooks, money, payments, signing, studies, submissions
from crowd_imi.platforms.standins.prolific.desk import Desk, bad_request, not_found
from crowd_imi.platforms.standins.prolific.documents import asked, check_token, handled, page, reply
from crowd_imi.platforms.standins.prolific.events import EVENT_TYPES
from crowd_imi.platforms.standins.prolific.filters import FILTERS
from crowd_imi.platforms.standins.prolific.tables import Group, Study, Submission

PREFIX = "/api/v1"


def routes() -> Blueprint:
    """Everything that wants a token."""
    blueprint = Blueprint("api", __name__, url_prefix=PREFIX)
    blueprint.before_request(check_token)
    for rule, method, view in (
        ("/users/me/", "GET", me),
        ("/workspaces/", "GET", list_workspaces),
        ("/workspaces/<workspace>/", "GET", get_workspace),
        ("/workspaces/<workspace>/balance/", "GET", get_balance),
        ("/workspaces/<workspace>/projects/", "GET", list_projects),
        ("/projects/<project>/", "GET", get_project),
        ("/projects/<project>/studies/", "GET", list_project_studies),
        ("/filters/", "GET", list_filters),
        ("/studies/", "POST", create_study),
        ("/studies/", "GET", list_studies),
        ("/studies/<study>/", "GET", get_study),
        ("/studies/<study>/", "PATCH", change_study),
        ("/studies/<study>/", "DELETE", delete_study),
        ("/studies/<study>/transition/", "POST", transition_study),
        ("/studies/<study>/cost/", "GET", get_cost),
        ("/studies/<study>/submissions/", "GET", list_study_submissions),
        ("/study-cost-calculator/", "POST", calculate_cost),
        ("/submissions/", "GET", list_submissions),
        ("/submissions/<submission>/", "GET", get_submission),
        ("/submissions/<submission>/transition/", "POST", transition_submission),
        ("/submissions/<submission>/request-return/", "POST", request_return),
        ("/submissions/bulk-approve/", "POST", bulk_approve),
        ("/submissions/bonus-payments/", "POST", set_up_bonuses),
        ("/bulk-bonus-payments/<batch>/pay/", "POST", pay_bonuses),
        ("/participant-groups/", "POST", create_group),
        ("/participant-groups/", "GET", list_groups),
        ("/participant-groups/<group>/", "GET", get_group),
        ("/participant-groups/<group>/participants/", "GET", list_members),
        ("/participant-groups/<group>/participants/", "POST", add_members),
        ("/participant-groups/<group>/participants/", "DELETE", remove_members),
        ("/hooks/event-types/", "GET", list_event_types),
        ("/hooks/secrets/", "POST", make_secret),
        ("/hooks/secrets/", "GET", list_secrets),
        ("/hooks/subscriptions/", "POST", subscribe),
        ("/hooks/subscriptions/", "GET", list_subscriptions),
        ("/hooks/subscriptions/<subscription>/", "POST", confirm_subscription),
        ("/hooks/subscriptions/<subscription>/", "PATCH", change_subscription),
        ("/hooks/subscriptions/<subscription>/", "DELETE", delete_subscription),
    ):
        blueprint.add_url_rule(rule, view.__name__, handled(view), methods=[method])
    return blueprint


def me(desk: Desk) -> Response:
    """Whose token it is."""
    person = {"id": desk.setting("user"), "email": "researcher@prolific.invalid", "name": "Prolific's stand-in"}
    return reply({**person, "status": "OK", "user_type": "researcher", "currency_code": desk.account.currency})


def list_workspaces(desk: Desk) -> Response:
    """``GET /workspaces/``."""
    return page([desk.setting("workspace")], lambda identity: _workspace(desk, identity))


def get_workspace(desk: Desk, workspace: str) -> Response:
    """``GET /workspaces/{workspace}/``."""
    return reply(_workspace(desk, _own(desk, "workspace", workspace)))


def get_balance(desk: Desk, workspace: str) -> Response:
    """What was paid in and not spent, and how much of it isn't assigned to studies."""
    _own(desk, "workspace", workspace)
    total, available = money.total_balance(desk), money.available_balance(desk)
    return reply(
        {
            "currency_code": desk.account.currency,
            "total_balance": total,
            "balance_breakdown": {"rewards": total, "fees": 0, "vat": 0},
            "available_balance": available,
            "available_balance_breakdown": {"rewards": available, "fees": 0, "vat": 0},
        }
    )


def list_projects(desk: Desk, workspace: str) -> Response:
    """``GET /workspaces/{workspace}/projects/``."""
    _own(desk, "workspace", workspace)
    return page([desk.setting("project")], lambda identity: _project(desk, identity))


def get_project(desk: Desk, project: str) -> Response:
    """``GET /projects/{project}/``."""
    return reply(_project(desk, _own(desk, "project", project)))


def list_project_studies(desk: Desk, project: str) -> Response:
    """``GET /projects/{project}/studies/``."""
    _own(desk, "project", project)
    return list_studies(desk)


def list_filters(desk: Desk) -> Response:
    """Everything that ``filters`` of a study may name."""
    return page(list(FILTERS.values()), lambda found: found.model_dump(mode="json"))


def create_study(desk: Desk) -> Response:
    """``POST /studies/``."""
    return reply(studies.document(desk, studies.create(desk, asked())), 201)


def list_studies(desk: Desk) -> Response:
    """The newest first."""
    chosen = select(Study).order_by(Study.number.desc())
    state = request.args.get("state") or request.args.get("status")
    if state is not None:
        chosen = chosen.where(Study.status == state.replace("_", " ").upper())
    return page(desk.session.scalars(chosen).all(), lambda study: studies.summary(desk, study))


def get_study(desk: Desk, study: str) -> Response:
    """``GET /studies/{study}/``."""
    return reply(studies.document(desk, studies.find_study(desk, study)))


def change_study(desk: Desk, study: str) -> Response:
    """``PATCH /studies/{study}/``."""
    found = studies.find_study(desk, study)
    studies.change(desk, found, asked())
    return reply(studies.document(desk, found))


def delete_study(desk: Desk, study: str) -> Response:
    """``DELETE /studies/{study}/``."""
    studies.delete(desk, studies.find_study(desk, study))
    return Response(status=204)


def transition_study(desk: Desk, study: str) -> Response:
    """``POST /studies/{study}/transition/``."""
    found = studies.find_study(desk, study)
    studies.transition(desk, found, asked().get("action"))
    return reply(studies.document(desk, found))


def get_cost(desk: Desk, study: str) -> Response:
    """Rewards, fees and VAT of all places; minor units."""
    fields = studies.fields_of(studies.find_study(desk, study))
    cost = money.cost_of(desk.account, fields.reward, fields.total_available_places)
    return reply({**cost, "currency_code": desk.account.currency})


def calculate_cost(desk: Desk) -> Response:
    """The same for a study that isn't there yet."""
    values = asked()
    reward, places = values.get("reward"), values.get("total_available_places")
    if not isinstance(reward, int) or not isinstance(places, int) or reward < 1 or places < 1:
        raise bad_request({"reward": ["reward and total_available_places must be whole numbers from 1"]})
    return reply(money.cost_of(desk.account, reward, places))


def list_submissions(desk: Desk) -> Response:
    """A study's submissions. Prolific takes the parameter to be optional and lists everybody's; leaving it out is a mistake."""
    study = request.args.get("study")
    if study is None:
        raise bad_request({"study": ["say which study's"]})
    return list_study_submissions(desk, study)


def list_study_submissions(desk: Desk, study: str) -> Response:
    """The oldest first."""
    found = studies.find_study(desk, study)
    chosen = select(Submission).where(Submission.study_id == found.id)
    state = request.args.get("status")
    if state is not None:
        chosen = chosen.where(Submission.status.in_((state.upper(), state.replace("_", " ").upper())))
    latest_first = request.args.get("ordering") == "-started_at"
    chosen = chosen.order_by(Submission.number.desc() if latest_first else Submission.number)
    return page(desk.session.scalars(chosen).all(), lambda submission: submissions.summary(desk, submission))


def get_submission(desk: Desk, submission: str) -> Response:
    """``GET /submissions/{submission}/``."""
    return reply(submissions.document(desk, submissions.find_submission(desk, submission)))


def transition_submission(desk: Desk, submission: str) -> Response:
    """``POST /submissions/{submission}/transition/``."""
    found = submissions.find_submission(desk, submission)
    payments.transition(desk, found, asked())
    return reply(submissions.document(desk, found))


def request_return(desk: Desk, submission: str) -> Response:
    """``POST /submissions/{submission}/request-return/``."""
    found = submissions.find_submission(desk, submission)
    submissions.request_return(desk, found, asked().get("request_return_reasons"))
    return reply(submissions.document(desk, found))


def bulk_approve(desk: Desk) -> Response:
    """``POST /submissions/bulk-approve/``."""
    payments.bulk_approve(desk, asked())
    return reply({"message": "The submissions are being approved."}, 201)


def set_up_bonuses(desk: Desk) -> Response:
    """``POST /submissions/bonus-payments/``."""
    return reply(payments.set_up_bonuses(desk, asked()), 201)


def pay_bonuses(desk: Desk, batch: str) -> Response:
    """``POST /bulk-bonus-payments/{batch}/pay/``."""
    payments.pay_bonuses(desk, batch)
    return reply({"message": "The payment will be done in the following minutes."}, 202)


def create_group(desk: Desk) -> Response:
    """``POST /participant-groups/``."""
    return reply(groups.create(desk, asked()), 201)


def list_groups(desk: Desk) -> Response:
    """``GET /participant-groups/``."""
    found = desk.session.scalars(select(Group).order_by(Group.number)).all()
    return page(found, lambda group: groups.document(desk, group))


def get_group(desk: Desk, group: str) -> Response:
    """``GET /participant-groups/{group}/``."""
    return reply(groups.document(desk, groups.find_group(desk, group)))


def list_members(desk: Desk, group: str) -> Response:
    """``GET /participant-groups/{group}/participants/``."""
    return reply(groups.members(desk, groups.find_group(desk, group)))


def add_members(desk: Desk, group: str) -> Response:
    """``POST /participant-groups/{group}/participants/``."""
    found = groups.find_group(desk, group)
    groups.add(desk, found, asked())
    desk.session.flush()
    return reply(groups.members(desk, found))


def remove_members(desk: Desk, group: str) -> Response:
    """``DELETE /participant-groups/{group}/participants/``."""
    found = groups.find_group(desk, group)
    groups.remove(desk, found, asked())
    return reply(groups.members(desk, found))


def list_event_types(_desk: Desk) -> Response:
    """``GET /hooks/event-types/``."""
    return reply({"results": [{"event_type": name, "description": text} for name, text in EVENT_TYPES.items()]})


def make_secret(desk: Desk) -> Response:
    """``POST /hooks/secrets/``."""
    return reply(hooks.make_secret(desk, asked()), 201)


def list_secrets(desk: Desk) -> Response:
    """``GET /hooks/secrets/``."""
    return reply(hooks.list_secrets(desk))


def subscribe(desk: Desk) -> Response:
    """``POST /hooks/subscriptions/``."""
    document, confirmation = hooks.subscribe(desk, asked())
    answer = reply(document, 201)
    answer.headers["X-Hook-Secret"] = confirmation
    return answer


def list_subscriptions(desk: Desk) -> Response:
    """``GET /hooks/subscriptions/``."""
    return reply(hooks.list_subscriptions(desk))


def confirm_subscription(desk: Desk, subscription: str) -> Response:
    """``POST /hooks/subscriptions/{subscription}/``."""
    found = hooks.find_subscription(desk, subscription)
    hooks.confirm(desk, found, asked())
    return reply(hooks.document(desk, found))


def change_subscription(desk: Desk, subscription: str) -> Response:
    """``PATCH /hooks/subscriptions/{subscription}/``."""
    found = hooks.find_subscription(desk, subscription)
    hooks.change(found, asked())
    return reply(hooks.document(desk, found))


def delete_subscription(desk: Desk, subscription: str) -> Response:
    """Events that weren't sent yet are dropped; those that were stay in the books."""
    hooks.find_subscription(desk, subscription).enabled = False
    return Response(status=204)


def jwks(desk: Desk) -> Response:
    """``/.well-known/study/jwks.json``, without a token."""
    return reply(signing.jwks(desk))


def _own(desk: Desk, what: str, identity: str) -> str:
    if identity != desk.setting(what):
        raise not_found(f"{what} {identity}")
    return identity


def _workspace(desk: Desk, identity: str) -> dict[str, object]:
    return {
        "id": identity,
        "title": "The stand-in's workspace",
        "owner": desk.setting("user"),
        "users": [{"id": desk.setting("user")}],
        "projects": [{"id": desk.setting("project")}],
        "currency_code": desk.account.currency,
    }


def _project(desk: Desk, identity: str) -> dict[str, object]:
    return {
        "id": identity,
        "title": "The stand-in's project",
        "workspace": desk.setting("workspace"),
        "owner": desk.setting("user"),
        "users": [{"id": desk.setting("user")}],
    }
