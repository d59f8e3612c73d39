//! A headless Chromium, driven over the pipes of its DevTools protocol, with one page.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The browser; it ends with the test.
pub(crate) struct Chromium {
    child: Child,
    commands: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    session: String,
    last_id: Cell<u64>,
    complaints: RefCell<Vec<String>>,
    profile: TempDir,
}

impl Chromium {
    /// Starts it with an empty page.
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is on the descriptors 3 and 4; what it writes elsewhere is of interest only if it does not start.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >\"$LOG\" 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script, &program(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox"])
            .args([
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
            ])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .env("LOG", profile.path().join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, messages) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let texts = output.split(0).map_while(Result::ok);
            texts
                .filter_map(|text| serde_json::from_slice(&text).ok())
                .try_for_each(|message| send.send(message))
        });
        let commands = RefCell::new(child.stdin.take().unwrap());
        let (session, last_id, complaints) = (String::new(), Cell::new(0), RefCell::default());
        let mut browser = Self { child, commands, messages, session, last_id, complaints, profile };
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"}));
        let asked = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", asked);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens an address and waits until all of it is there.
    pub(crate) fn open(&self, url: &str) {
        let opened = self.command("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.wait("document.readyState === 'complete'");
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.command("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of an element.
    #[track_caller]
    pub(crate) fn text(&self, id: &str) -> String {
        self.value(&format!("document.getElementById('{id}').innerText")).as_str().unwrap().to_owned()
    }

    /// Waits until an expression on the page holds.
    #[track_caller]
    pub(crate) fn wait(&self, expression: &str) {
        let look = format!(
            "new Promise((resolve) => {{
                const end = performance.now() + {};
                const look = () => {{
                    const holds = {expression};
                    if (holds || performance.now() > end) resolve(Boolean(holds)); else setTimeout(look, 10);
                }};
                look();
            }})",
            PATIENCE.as_millis()
        );
        let came = self.value(&look);
        assert!(came == true, "never: {expression}; {:?}; the page: {}", self.complaints(), self.page());
    }

    /// Types into what has the focus.
    pub(crate) fn type_text(&self, text: &str) {
        self.command("Input.insertText", json!({"text": text}));
    }

    /// Presses a key: `Tab`, `Enter` or `Space`.
    pub(crate) fn press(&self, key: &str) {
        let (code, key, text) = match key {
            "Tab" => (9, "Tab", ""),
            "Enter" => (13, "Enter", "\r"),
            _ => (32, " ", " "),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.command("Input.dispatchKeyEvent", event);
        }
    }

    /// Goes on with the key Tab until the element has the focus.
    #[track_caller]
    pub(crate) fn tab_to(&self, id: &str) {
        for _ in 0..60 {
            if self.value("document.activeElement.id") == id {
                return;
            }
            self.press("Tab");
        }
        panic!("the key Tab does not lead to '{id}'");
    }

    /// Gives the page another size, of a phone perhaps, and a theme.
    pub(crate) fn look(&self, width: u32, height: u32, theme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({"name": "prefers-color-scheme", "value": theme});
        // A picture is of what it comes to.
        let motion = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        self.command("Emulation.setEmulatedMedia", json!({"features": [scheme, motion]}));
        self.wait(&format!("innerWidth === {width}"));
        // Two frames: in the first the page learns of it, in the second that is drawn.
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    }

    /// Keeps a picture of what is to be seen.
    pub(crate) fn screenshot(&self, path: &Path) {
        let picture = self.command("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = BASE64.decode(picture["data"].as_str().unwrap().as_bytes()).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// What went wrong on the page: exceptions that nobody took, and what its policy forbade.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.borrow().clone()
    }

    fn page(&self) -> Value {
        let shown = "document.body.innerText + document.body.dataset.state";
        self.command("Runtime.evaluate", json!({"expression": shown}))["result"]["value"].take()
    }

    /// Gives a command and waits for its result.
    #[track_caller]
    fn command(&self, method: &str, params: Value) -> Value {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let mut command = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        let sent = self.commands.borrow_mut().write_all(format!("{command}\0").as_bytes());
        assert!(sent.is_ok(), "the browser has ended: {}", self.log());
        loop {
            // Longer than the page itself waits for anything.
            let message = self.messages.recv_timeout(PATIENCE * 2);
            let mut message = message.unwrap_or_else(|e| panic!("{method}: {e}; {}", self.log()));
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    fn note(&self, message: &Value) {
        let params = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(&params["exceptionDetails"]),
            Some("Log.entryAdded") => Some(&params["entry"]).filter(|entry| entry["source"] == "security"),
            Some("Runtime.consoleAPICalled") => Some(params).filter(|call| call["type"] == "error"),
            _ => None,
        };
        self.complaints.borrow_mut().extend(complaint.map(Value::to_string));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its processes end with the first of them.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser's name on this machine.
fn program() -> String {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names.iter().find(|name| std::env::split_paths(&path).any(|one| one.join(name).is_file()));
    (*found.expect("no Chromium is installed: `tests/run tools` does that")).to_owned()
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
