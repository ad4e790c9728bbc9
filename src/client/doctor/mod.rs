//! A look at a deployed lastword from the outside: what lies between here and there, and what it does to answers.
//!
//! Each check asks the server for something whose right outcome is known, and compares. The mock says most of it, since it says what it
//! is told, when it is told; with another model only what needs no script is checked. What was asked for is removed behind it.

mod cors;
mod idle;
mod listen;
mod resume;
mod streaming;

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use self::listen::Listening;
use super::{Client, Error, Response};

/// Above this two clocks are not the same.
const SKEW: Duration = Duration::from_secs(5);
/// How much of a text that is not an answer's is read.
const SHORT: usize = 64 * 1024;
/// Until the head of any response; a server holds none back for so long.
const HEAD: Duration = Duration::from_secs(30);

/// Who looks, and at what.
#[derive(Clone, Debug)]
pub struct Doctor {
    /// Of the deployed address.
    pub client: Client,
    /// Who is asked, in place of the mock.
    pub model: Option<String>,
    /// How long an answer is silent.
    pub patience: Duration,
    /// Of a page that will ask.
    pub origin: Option<String>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be told, or does not matter here.
    Note,
    /// It works, and costs something.
    Warn,
    /// It does not work.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// In a sentence.
    pub finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, finding: impl Into<String>) -> Self {
        Self { check, verdict, finding: finding.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What a check needs is not to be had: the finding says why.
type Checked = Result<Finding, Finding>;

impl Doctor {
    /// Looks at everything; the findings in order, each as soon as it is known.
    pub async fn examine(&self, mut tell: impl FnMut(Finding)) {
        let reached = match self.reach().await {
            Ok((finding, http)) => {
                tell(finding);
                http
            }
            Err(finding) => return tell(finding),
        };
        tell(reached);
        if let Some(finding) = self.admitted().await {
            let over = finding.verdict == Verdict::Fail;
            tell(finding);
            if over {
                return;
            }
        }
        // They wait most of the time, so they wait together.
        let (words, packed, resumed, idle) = tokio::join!(self.words(), self.compression(), self.resume(), self.idle());
        for checked in [words, packed, resumed, idle] {
            tell(checked.unwrap_or_else(|finding| finding));
        }
        tell(self.cors().await.unwrap_or_else(|finding| finding));
    }

    /// Whether a lastword is there at all, and what is spoken with it.
    async fn reach(&self) -> Result<(Finding, Finding), Finding> {
        let check = "reached";
        let fail = |why: String| Finding::new(check, Verdict::Fail, why);
        let response = self.client.get("healthz", "*/*", &[]);
        let response =
            within(response).await.map_err(|error| fail(error).remedy("is it running, and is this its address?"))?;
        let (status, http2) = (response.status(), response.is_http2());
        let text = response.text(SHORT).await;
        if (status, text.trim()) != (200, "ok") {
            let why = format!("who answers there is no lastword: /healthz is {status}, and is not `ok`");
            return Err(fail(why).remedy("a proxy must hand all paths on, or the URL needs the path that it hands on"));
        }
        Ok((Finding::new(check, Verdict::Ok, "a lastword answers"), self.spoken(http2)))
    }

    fn spoken(&self, http2: bool) -> Finding {
        let check = "http/2";
        let (secure, near) = (self.client.is_secure(), self.client.is_near());
        let six = "a browser opens six connections to an origin, so the seventh answer that a person has open waits for one to end";
        match (http2, secure) {
            (true, _) => Finding::new(check, Verdict::Ok, "HTTP/2: a browser has all its answers on one connection"),
            (false, true) => Finding::new(check, Verdict::Warn, format!("HTTP/1.1, though TLS is spoken: {six}"))
                .remedy("switch HTTP/2 on where TLS ends (nginx: `http2 on;`)"),
            (false, false) if near => Finding::new(
                check,
                Verdict::Note,
                format!("HTTP/1.1 in the clear, as is usual on one's own machine: {six}"),
            ),
            (false, false) => {
                let why = format!("HTTP/1.1 in the clear: whoever is on the way reads along, and {six}");
                Finding::new(check, Verdict::Warn, why)
                    .remedy("speak TLS, by a proxy or by [server] tls_cert; HTTP/2 comes with it")
            }
        }
    }

    /// Whether an answer can be started, and how the clocks differ: the one who stamps it is the server itself.
    async fn admitted(&self) -> Option<Finding> {
        let fail = |why: String| Finding::new("asked", Verdict::Fail, why);
        let began = SystemTime::now();
        let started = match self.start(json!({"text": "ok"}), "application/json").await {
            Ok(response) => response,
            Err(finding) => return Some(finding),
        };
        let text = started.text(SHORT).await;
        let Ok(state) = serde_json::from_str::<Value>(&text) else {
            return Some(fail("what it says to a prompt is no JSON".into()));
        };
        self.remove(state["id"].as_str()).await;
        let stamp = state["created_at"].as_str().and_then(|stamp| humantime::parse_rfc3339(stamp).ok());
        let Some(stamp) = stamp else { return Some(fail("its answers have no `created_at`".into())) };
        let (now, check) = (SystemTime::now(), "clock");
        let apart = stamp.duration_since(now).or_else(|_| began.duration_since(stamp)).unwrap_or_default();
        let shown = humantime::format_duration(Duration::from_secs(apart.as_secs()));
        Some(match apart > SKEW {
            false => Finding::new(check, Verdict::Ok, "the server's clock is this machine's"),
            true => {
                Finding::new(check, Verdict::Warn, format!("the server's clock and this machine's differ by {shown}"))
                    .remedy("credentials that expire are judged by the server's clock: keep both by NTP")
            }
        })
    }

    /// Starts an answer that the mock says like this, or the model as it likes. The head is here then, and is a success.
    async fn start(&self, script: Value, accept: &'static str) -> Result<Response, Finding> {
        self.start_with(script, accept, &[]).await
    }

    async fn start_with(
        &self,
        script: Value,
        accept: &'static str,
        headers: &[(String, String)],
    ) -> Result<Response, Finding> {
        let fail = |why: String| Finding::new("asked", Verdict::Fail, why);
        let body = match &self.model {
            None => json!({"prompt": "doctor", "model": "mock/words", "backend_options": script}),
            Some(model) => json!({"prompt": "Count from 1 to 60, in digits.", "model": model, "max_tokens": 200}),
        };
        let response = self.client.post("v1/streams", accept, headers, body.to_string().into_bytes());
        let response = within(response).await.map_err(fail)?;
        let status = response.status();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let text = response.text(SHORT).await;
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let [code, detail] = ["code", "detail"].map(|member| problem[member].as_str().unwrap_or_default().to_owned());
        let said = if code.is_empty() { "and no word of why".to_owned() } else { format!("{code}: {detail}") };
        let found = fail(format!("a prompt was answered with {status}, {said}"));
        Err(match status {
            401 | 403 => found.remedy("put a key that may ask into LASTWORD_API_KEY"),
            404 | 405 => found.remedy("a proxy must hand on POST /v1/streams too"),
            400 if self.model.is_none() => found.remedy("it has no mock: name a model of its own with --model"),
            _ => found.remedy("see the server's log"),
        })
    }

    /// What the server knows of an answer.
    async fn state(&self, id: &str) -> Result<Value, Finding> {
        let fail = |why: String| Finding::new("state", Verdict::Fail, why);
        let response =
            within(self.client.get(&format!("v1/streams/{id}"), "application/json", &[])).await.map_err(fail)?;
        let status = response.status();
        let text = response.text(16 << 20).await;
        serde_json::from_str(&text).map_err(|_| fail(format!("the state of an answer cannot be read: {status}")))
    }

    /// Of no use to anybody. If it cannot be removed, it goes with its time.
    async fn remove(&self, id: Option<&str>) {
        if let Some(id) = id {
            let _kept = within(self.client.delete(&format!("v1/streams/{id}"))).await;
        }
    }

    /// Reads an answer that was just started, to its end or its breaking off.
    async fn hear(&self, response: Response, at_most: Duration) -> Listening {
        let mut listening = Listening::new(response);
        let ended = tokio::time::timeout(at_most, listening.hear_out()).await;
        if ended.is_err() {
            listening.broke = Some(format!("it did not end within {}", humantime::format_duration(at_most)));
        }
        listening
    }
}

/// A request that is not answered in time is told like one that is not answered.
async fn within<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(HEAD, request).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing came back within {} s", HEAD.as_secs())),
    }
}
