//! The dashboard: a page that logs in, shows what goes on on the bus and calls endpoints. It is part of this crate as it
//! is; nothing is built and no other host is asked.

use crate::pages::Pages;

impl Pages {
    /// The dashboard at `/`, with its styles and scripts beside it, among them the JavaScript client as `/visorbus.js`.
    pub fn dashboard() -> Self {
        FILES
            .iter()
            .fold(Self::new(), |pages, &(path, content_type, bytes)| pages.with(path, content_type, bytes))
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, content type and content.
const FILES: [(&str, &str, &[u8]); 7] = [
    ("/", HTML, include_bytes!("../dashboard/index.html")),
    ("/dashboard.css", CSS, include_bytes!("../dashboard/dashboard.css")),
    ("/dashboard.js", SCRIPT, include_bytes!("../dashboard/dashboard.js")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../dashboard/icon.svg")),
    ("/panels.js", SCRIPT, include_bytes!("../dashboard/panels.js")),
    ("/plot.js", SCRIPT, include_bytes!("../dashboard/plot.js")),
    ("/visorbus.js", SCRIPT, include_bytes!("../js/visorbus.js")),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy that pages are served with would have a browser leave them out.
    #[test]
    fn the_page_has_no_inline_script_no_inline_style_and_names_no_other_host() {
        for (path, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("://") || path.ends_with(".js"), "{path} names a host");
            for inline in [" style=", "<style", " onclick=", " onload=", "javascript:", "<script>", "eval("] {
                assert!(!text.contains(inline), "{path} has {inline}");
            }
        }
    }

    #[test]
    fn what_the_page_asks_for_is_served_with_it() {
        let pages = Pages::dashboard();
        for (path, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let words = text.split(['"', '\'']);
            let named = words.filter(|word| [".js", ".css", ".svg"].iter().any(|end| word.ends_with(end)));
            // The one for Node is never asked for by a browser.
            for name in named.filter(|name| !name.contains(' ') && *name != "./node-websocket.js") {
                let wanted = format!("/{}", name.trim_start_matches("./"));
                assert!(pages.at(&wanted).is_some(), "{path} asks for {wanted}");
            }
        }
    }
}
