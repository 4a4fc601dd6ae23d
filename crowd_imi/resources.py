"""Finds what ships beside the code: templates, committed image sets and the page's built scripts.

In a checkout (and an editable install) they stand at the top level; a wheel carries them in ``crowd_imi/_data``.
"""

from pathlib import Path

from crowd_imi.errors import CrowdImiError

_PACKAGE = Path(__file__).parent


def resource(*parts: str) -> Path:
    """Path of a file or folder below ``hit_templates/`` or ``stimuli/``, e.g. ``resource("stimuli", "practice")``.

    Raises:
        CrowdImiError: it is neither in the package nor in a checkout.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise CrowdImiError(f"{'/'.join(parts)} isn't installed; reinstall crowd_imi")


def built(name: str) -> Path:
    """Path of one of the page's scripts, which the build takes from the npm registry.

    Raises:
        CrowdImiError: the build didn't put it there.
    """
    path = _PACKAGE / "_built" / name
    if not path.exists():
        raise CrowdImiError(f"the page's script {name} hasn't been built; run `make install` or reinstall crowd_imi")
    return path
