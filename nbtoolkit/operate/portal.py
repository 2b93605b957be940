"""Links to the pages of the app: its web UI and its pages in the Azure portal."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from nbtoolkit.azure.logs.log_analytics import log_query_page
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.utils.display import LINK


@dataclass(frozen=True)
class Link:
    """A page: its title, address and purpose."""

    title: str
    url: str
    purpose: str


@dataclass(frozen=True)
class Links:
    """The pages of an app; prints addresses as text, and links in a notebook."""

    pages: tuple[Link, ...]

    def __getitem__(self, title: str) -> str:
        return next(page.url for page in self.pages if page.title == title)

    def __str__(self) -> str:
        return "\n".join(f"{page.title}: {page.purpose}\n  {page.url}" for page in self.pages)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px">'
        rows = "".join(
            f'<tr>{cell}<a href="{escape(page.url, quote=True)}" style="{LINK}" '
            f'target="_blank" rel="noopener">'
            f"{escape(page.title)}</a></td>{cell}{escape(page.purpose)}</td></tr>"
            for page in self.pages
        )
        return f'<table style="border-collapse:collapse">{rows}</table>'


def links(target: AzureTarget | None = None) -> Links:
    """Return links to the endpoint's page and to the portal, with the log's query ready to run.

    Three requests to Azure, none to the app. Opening the endpoint or the live log may wake the app.
    """
    target = target or AzureTarget()
    names, app_page = target.provisioned, portal_url(target.provisioned.app_id)
    pages = [
        Link("Chat", names.endpoint or "", "the app's own page; opening it wakes the app"),
        Link("App", app_page, "the container app in the portal"),
        Link("Live log", f"{app_page}/logstream", "the output of the container; opening it may wake the app"),
        Link(
            "All logs",
            log_query_page(target.app),
            "Log Analytics with the query ready to run; some minutes behind",
        ),
        Link("Files", portal_url(names.account_id), "the storage account with the file share"),
        Link("Resource group", portal_url(names.group_id), "all resources of the group, and their costs"),
    ]
    return Links(tuple(page for page in pages if page.url))
