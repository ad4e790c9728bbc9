//! Whether an answer that is silent for long stays open: a model that thinks says nothing for a minute.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Checked, Doctor, Finding, Verdict};

/// Beyond the silence itself.
const GRACE: Duration = Duration::from_secs(30);
/// The longest that a server should leave between two signs of life.
const SIGNS: Duration = Duration::from_secs(35);

impl Doctor {
    pub(super) async fn idle(&self) -> Checked {
        let check = "silence";
        let silence = humantime::format_duration(self.patience);
        if self.model.is_some() {
            return Ok(Finding::new(check, Verdict::Note, "only the mock is silent when it is told to: not looked at"));
        }
        let began = Instant::now();
        let response = self.start(json!({"text": "ok", "first": silence.to_string()}), "text/event-stream").await?;
        let mut heard = self.hear(response, self.patience + GRACE).await;
        self.remove(heard.id.as_deref()).await;
        let words = heard.words.first().copied();
        heard.signs.retain(|sign| words.is_none_or(|words| *sign < words));
        let gaps = || {
            let times = || std::iter::once(began).chain(heard.signs.iter().copied());
            times().zip(times().skip(1)).map(|(one, next)| next - one)
        };
        if let Some(why) = heard.broke {
            let after = heard.over.duration_since(began).as_secs_f64();
            let quiet = heard.over.duration_since(heard.signs.last().copied().unwrap_or(began)).as_secs_f64();
            let why = format!(
                "an answer that said nothing was cut off after {after:.1} s ({why}); the last sign of life had come {quiet:.1} s before"
            );
            return Ok(Finding::new(check, Verdict::Fail, why).remedy(
                "raise the proxy's timeout (nginx: `proxy_read_timeout`, haproxy: `timeout server`), or lower [server] heartbeat below it",
            ));
        }
        // The head and the opening bytes are a sign too: those of the silence come behind it.
        let signs = heard.signs.iter().filter(|sign| sign.duration_since(began) > Duration::from_secs(1)).count();
        if self.patience > SIGNS && signs == 0 {
            let why = format!("an answer stayed open for {silence} of silence, but no heartbeat came through");
            return Ok(Finding::new(check, Verdict::Warn, why)
                .remedy("something on the way takes comments out, or [server] heartbeat is very long; readers can ask for events: `?heartbeat=event`"));
        }
        let longest = gaps().max().unwrap_or_default();
        let kept = format!("an answer stayed open for {silence} of silence");
        Ok(match signs {
            0 => Finding::new(check, Verdict::Note, format!("{kept}; too short to see a heartbeat")),
            _ => Finding::new(
                check,
                Verdict::Ok,
                format!("{kept}, with a heartbeat every {:.1} s", longest.as_secs_f64()),
            ),
        })
    }
}
