"""Follows every link of a built book, the directory that it is given, and names those that lead nowhere: to no file of the book, or
to no place in its page. Links to other machines it only counts."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), {"", "top"}
        self.feed(path.read_text())

    def handle_starttag(self, _, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.add(value)
            if name in ("id", "name") and value:
                self.places.add(value)


def main():
    book = Path(sys.argv[1]).resolve()
    # That of a page that is not there has the addresses of a server.
    pages = {path: Page(path) for path in book.rglob("*.html") if path.name != "404.html"}
    dead, inside, outside = [], 0, 0
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                outside += 1
                continue
            inside += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_there = target.is_file() and target.is_relative_to(book)
            if not is_there or (target in pages and unquote(parts.fragment) not in pages[target].places):
                dead.append(f"{path.relative_to(book)}: {link}")
    print(f"{len(pages)} pages, {inside} links in the book, {outside} to elsewhere")
    if not pages or dead:
        sys.exit("these lead nowhere:\n" + "\n".join(dead))


main()
