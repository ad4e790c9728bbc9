//! Whether words come when they are said: something on the way may hold them back, or pack them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Checked, Doctor, Finding, Verdict, listen::Listening};

/// How long the answer to a check may take.
const LONG: Duration = Duration::from_secs(90);
/// So many words, so far apart.
const WORDS: usize = 40;
const APART: &str = "50ms";
/// Said within less, it cannot be told whether it was held back.
const TOO_QUICK: Duration = Duration::from_millis(500);
/// More than that at once is no model's doing.
const TOGETHER: usize = 5;
const EVENTS: &str = "text/event-stream";
const HOW: &str = "let no proxy buffer this path: nginx heeds `X-Accel-Buffering: no`, which lastword sends, unless told to ignore it \
                   (else `proxy_buffering off;`); see docs/proxies.md for others. Where it cannot be helped, read with `?format=json`, \
                   the long poll";

impl Doctor {
    /// Whether each word comes alone.
    pub(super) async fn words(&self) -> Checked {
        let check = "words";
        let response = self.start(slowly(), EVENTS).await?;
        if !response.header("content-type").is_some_and(|kind| kind.starts_with(EVENTS)) {
            let kind = response.header("content-type").unwrap_or("nothing").to_owned();
            let why = format!("an answer in events comes as `{kind}`: something on the way changes it");
            return Ok(Finding::new(check, Verdict::Fail, why).remedy("hand responses on as they are"));
        }
        let heard = self.hear(response, LONG).await;
        let said = self.said(&heard).await;
        self.remove(heard.id.as_deref()).await;
        if let Some(why) = &heard.broke {
            let why = format!("the answer broke off: {why}");
            return Ok(Finding::new(check, Verdict::Fail, why).remedy("see the log of what lies between"));
        }
        Ok(judge(&heard, said?))
    }

    /// Whether an answer is packed for who can unpack it, as browsers say they can.
    pub(super) async fn compression(&self) -> Checked {
        let check = "compression";
        let packed = [("accept-encoding".to_owned(), "gzip, deflate, br, zstd".to_owned())];
        let response = self.start_with(slowly(), EVENTS, &packed).await?;
        let coding = response.header("content-encoding").filter(|coding| *coding != "identity").map(str::to_owned);
        let heard = self.hear(response, LONG).await;
        let Some(coding) = coding else {
            self.remove(heard.id.as_deref()).await;
            return Ok(Finding::new(check, Verdict::Ok, "events are not compressed on the way"));
        };
        let said = self.said(&heard).await;
        self.remove(heard.id.as_deref()).await;
        let remedy = "leave text/event-stream out of what is compressed (nginx: it is not in `gzip_types` by default; apache: \
                      `SetEnvIf Request_URI ^/v1/ no-gzip`)";
        let together = said.map(|said| span(&heard.signs) < said / 2);
        Ok(match together {
            Ok(true) => {
                Finding::new(check, Verdict::Fail, format!("events are packed as `{coding}`, and held back for it"))
            }
            _ => Finding::new(
                check,
                Verdict::Warn,
                format!("events are packed as `{coding}`, word by word: that costs more than it saves"),
            ),
        }
        .remedy(remedy))
    }

    /// How long the answer took from its first word to its last, by the server's own clock.
    async fn said(&self, heard: &Listening) -> Result<Duration, Finding> {
        let fail = |why: &str| Finding::new("words", Verdict::Fail, why);
        let id = heard
            .id
            .as_deref()
            .ok_or_else(|| fail("an answer has no x-stream-id: something on the way takes it out"))?;
        let timings = &self.state(id).await?["timings"];
        let ms = |member| timings.get(member).and_then(Value::as_u64);
        let (first, total) = ms("first_token_ms").zip(ms("total_ms")).ok_or_else(|| fail("an answer had no words"))?;
        Ok(Duration::from_millis(total.saturating_sub(first)))
    }
}

fn slowly() -> Value {
    let words: Vec<_> = (0..WORDS).map(|n| n.to_string()).collect();
    json!({"text": words.join(" "), "delay": APART})
}

fn span(times: &[tokio::time::Instant]) -> Duration {
    times.first().zip(times.last()).map_or(Duration::ZERO, |(first, last)| *last - *first)
}

fn judge(heard: &Listening, said: Duration) -> Finding {
    let check = "words";
    let words = heard.words.len();
    if said < TOO_QUICK || words < 2 * TOGETHER {
        return Finding::new(check, Verdict::Note, "the answer was too short to tell whether it was held back")
            .remedy("name a slower model, or none where there is a mock");
    }
    let came = span(&heard.words);
    if came < said / 2 {
        let why = format!(
            "{words} words were said over {} ms, and came within {} ms: something on the way holds them back",
            said.as_millis(),
            came.as_millis()
        );
        return Finding::new(check, Verdict::Fail, why).remedy(HOW);
    }
    let most = heard.words.chunk_by(|one, next| one == next).map(<[_]>::len).max().unwrap_or_default();
    if most > TOGETHER {
        let why = format!(
            "up to {most} words came at once, of an answer that was said one by one: something on the way collects them"
        );
        return Finding::new(check, Verdict::Warn, why).remedy(HOW);
    }
    Finding::new(
        check,
        Verdict::Ok,
        format!("{words} words came one by one, over {} ms as they were said", came.as_millis()),
    )
}
