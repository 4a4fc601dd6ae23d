"""The sections of study.toml that say where a study is posted and hosted."""

from typing import Annotated, Any, Literal

from pydantic import Field

from crowd_imi.records import Record
from crowd_imi.study.fields import Natural, ReadableBy, WebAddress


class ProlificSection(Record):
    """``[prolific]``: what Prolific is told besides ``[study]`` and ``[pay]``; the token is read from ``PROLIFIC_API_TOKEN``."""

    project: str | None = None
    """Id of the project that the study is made in; the account's default one where it isn't set."""
    workspace: str | None = None
    """Id of the workspace whose balance is looked at."""
    devices: Annotated[tuple[Literal["desktop", "tablet", "mobile"], ...], Field(min_length=1)] = ("desktop",)
    filters: tuple[dict[str, Any], ...] = ()
    """As Prolific's API takes them, e.g. ``{filter_id = "approval_rate", selected_range = {lower = 95, upper = 100}}``."""
    not_in_studies: tuple[str, ...] = ()
    """Ids of earlier studies: who took part in one isn't invited."""
    not_in_groups: tuple[str, ...] = ()
    """Ids of participant groups: their members aren't invited."""
    in_groups: tuple[str, ...] = ()
    """Ids of participant groups: only their members are invited, of one group or another; everybody where it is empty."""
    add_to_group: str | None = None
    """Id of a participant group that Prolific puts everybody into who hands in, for later studies' ``not_in_groups``."""
    signed_arrivals: Annotated[bool, Field(strict=True)] = False
    """Let Prolific sign the link that participants follow, and let in only who comes with one, within two minutes."""
    fee_percent: Annotated[float, Field(ge=0, le=100)] = 33.3
    """Of the reward: 33.3 for academic accounts, 42.8 for corporate ones."""
    vat_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """On the fee, where the account pays any."""


class LinkSection(Record):
    """``[link]``: participants whom you invite yourself."""

    open: Annotated[bool, Field(strict=True)] = False
    """One link for everybody, which can't tell whether somebody comes twice; otherwise each invitation is signed and counts
    once."""
    return_url: Annotated[str, Field(pattern=r"^https?://[^\s{}]+$")] | None = None
    """Where the browser goes at the end, with ``code`` and ``participant`` added, e.g. a lab pool's credit page."""


class MturkSection(Record):
    """``[mturk]``: what Mechanical Turk, or an endpoint that speaks its protocol, is told; credentials are AWS's usual ones."""

    profile: str | None = None
    """AWS profile; the environment's where it isn't set."""
    min_approved_percent: Annotated[int, Field(ge=0, le=100, strict=True)] = 98
    min_approved_number: Natural = 100
    countries: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ()
    """ISO 3166 codes; everybody where it is empty."""
    masters: Annotated[bool, Field(strict=True)] = False
    not_qualifications: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    """Ids of earlier studies' qualifications: who has one isn't invited."""


class HostingSection(Record):
    """``[hosting]``: S3, or a storage that speaks its protocol, for the sprites; the pages serve them where no bucket is set.

    Credentials are AWS's usual ones.
    """

    bucket: (
        Annotated[
            str,
            Field(
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]+$",
                json_schema_extra={"form": "letters, digits, -, . and _, e.g. my-sprites"},
            ),
        ]
        | None
    ) = None
    """It must be there already."""
    region: str | None = None
    """The environment's or the profile's where it isn't set; AWS says by itself where a bucket is."""
    endpoint_url: WebAddress | None = None
    """Of a storage other than AWS, e.g. ``https://minio.your-lab.org``."""
    prefix: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*/?)?$",
            json_schema_extra={"form": "letters, digits, -, _, . and /, e.g. studies/my-study"},
        ),
    ] = ""
    """Before every key, e.g. ``my-study``."""
    profile: str | None = None
    """AWS profile; the environment's where it isn't set."""
    public_url: WebAddress | None = None
    """Where browsers reach the bucket: a CDN's address or a domain's; the storage's own where it isn't set."""
    readable_by: ReadableBy = "policy"
    """How browsers may read sprites: ``policy`` or ``acl`` are set by ``host``; ``own`` was set up by you, e.g. a CDN."""

    @property
    def key_prefix(self) -> str:
        """The prefix as keys begin with it: empty, or with a slash at its end."""
        return f"{self.prefix.rstrip('/')}/" if self.prefix else ""
