"""What a browser does with the registration page: reads its form, fills it in, sends it."""

import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """The first form of a page: where it goes, how, and its fields with the values they start with."""

    url: str
    method: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    def submit(self, **values: str) -> tuple[int, str]:
        """Sends the form with some fields filled in. Returns status and page."""
        if unknown := set(values) - set(self.fields):
            raise AssertionError(f"the form has no fields {unknown}, only {set(self.fields)}")
        assert self.method == "post"
        body = urllib.parse.urlencode(self.fields | values).encode()
        origin = urllib.parse.urlsplit(self.url)
        headers = {
            "Accept": "text/html,application/xhtml+xml",
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"{origin.scheme}://{origin.netloc}",
            "Sec-Fetch-Site": "same-origin",
        }
        return fetch(urllib.request.Request(self.url, body, headers))


def fetch(request: urllib.request.Request | str) -> tuple[int, str]:
    """Status and text of an answer, whatever the status is."""
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def read_form(page_url: str, html: str) -> Form:
    """The first form of the page; its target is resolved against the page's URL, as a browser does."""

    class Parser(HTMLParser):
        found: Form | None = None
        inside = False
        select = ""

        def handle_starttag(self, tag: str, attributes: list) -> None:
            given = dict(attributes)
            if tag == "form" and not self.found:
                self.inside = True
                self.found = Form(urllib.parse.urljoin(page_url, given.get("action", "")), given.get("method", "get"))
            elif not self.inside:
                return
            elif tag in ("input", "textarea") and given.get("name") and given.get("type") not in ("checkbox", "radio"):
                self.found.fields[given["name"]] = given.get("value") or ""
            elif tag == "select":
                self.select = given["name"]
            elif tag == "option" and self.select and (self.select not in self.found.fields or "selected" in given):
                self.found.fields[self.select] = given.get("value", "")

        def handle_endtag(self, tag: str) -> None:
            if tag == "form":
                self.inside = False
            elif tag == "select":
                self.select = ""

    parser = Parser()
    parser.feed(html)
    if not parser.found:
        raise AssertionError(f"no form on the page:\n{html}")
    return parser.found


def readable(html: str) -> str:
    """The text of a page, for a failed assertion."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())
