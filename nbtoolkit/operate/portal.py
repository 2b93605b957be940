"""The pages in a browser that belong to what runs here."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from nbtoolkit.azure.logs.log_analytics import log_query_page
from nbtoolkit.azure.portal_urls import app_page, log_stream_page, portal_url
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.utils.display import LINK


@dataclass(frozen=True)
class Link:
    """A page: what it is called, its address, and what it is for."""

    title: str
    url: str
    what: str


@dataclass(frozen=True)
class Links:
    """The pages of an app; prints its addresses as text, and as links in a notebook."""

    pages: tuple[Link, ...]

    def __getitem__(self, title: str) -> str:
        return next(page.url for page in self.pages if page.title == title)

    def __str__(self) -> str:
        return "\n".join(f"{page.title}: {page.what}\n  {page.url}" for page in self.pages)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px">'
        rows = "".join(
            f'<tr>{cell}<a href="{escape(page.url, quote=True)}" style="{LINK}" '
            f'target="_blank" rel="noopener">'
            f"{escape(page.title)}</a></td>{cell}{escape(page.what)}</td></tr>"
            for page in self.pages
        )
        return f'<table style="border-collapse:collapse">{rows}</table>'


def links(target: AzureTarget | None = None) -> Links:
    """Return the endpoint's page and those in the Azure portal, the log's query ready to run.

    Three requests to Azure, none to the app; opening the endpoint or the live log may wake it.
    """
    target = target or AzureTarget()
    place = target.provisioned
    chat = "the app's own page; opening it wakes the app"
    return Links(
        (
            *([Link("Chat", place.endpoint, chat)] if place.endpoint else []),
            Link("App", app_page(place), "the container app in the portal"),
            Link("Live log", log_stream_page(place), "what the container prints; may wake the app"),
            Link(
                "All logs",
                log_query_page(target.app),
                "Log Analytics, the query ready to run; some minutes behind",
            ),
            Link("Files", portal_url(place.account_id), "the storage account with the file share"),
            Link("Resource group", portal_url(place.group_id), "everything beside it, and what it costs"),
        )
    )
